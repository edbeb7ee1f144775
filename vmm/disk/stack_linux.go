package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// MaxLayers bounds a stack: each layer is a descriptor, and a look at a bit for blocks that none above it has.
	MaxLayers = 64
	// SectorSize is what a disk's size is a multiple of, in bytes.
	SectorSize = 512
	// maxSize bounds what maps are made for. It is the largest file of ext4.
	maxSize = 16 << 40
)

var (
	// ErrLayers: files that are no stack.
	ErrLayers = errors.New("disk layers")
	// ErrReadOnly: a change of a stack that is open for reading.
	ErrReadOnly = errors.New("disk is read-only")
	// ErrRange: bytes that the disk does not have.
	ErrRange = errors.New("outside of the disk")
)

// Stack is an open disk. Its methods may be called side by side; who reads what is being written gets the old or the new.
type Stack struct {
	size     int64
	readOnly bool
	layers   atomic.Pointer[[]*layer] // from the bottom to the top

	// mu is held shared by writes of blocks that the top has, and by all that add blocks; it is held alone by what takes blocks away and by what changes the top.
	mu sync.RWMutex
	// fill is held by what adds blocks to the top, so that two writes to one block do not lose each other's part.
	fill sync.Mutex

	frozenMu sync.Mutex
	frozen   []*layer // that may not be on the host's disk yet
}

// layer is a file of a stack. The bottom has no map: what it does not have is zeros.
type layer struct {
	file
	blocks *bitmap
}

// OpenFiles opens and locks the files of a stack, from the bottom to the top: all for reading but the top of one that is written.
func OpenFiles(paths []string, readOnly bool) (_ []*os.File, err error) {
	var files []*os.File
	defer func() {
		if err != nil {
			closeFiles(files)
		}
	}()
	for i, path := range paths {
		ro, flag := readOnly || i < len(paths)-1, os.O_RDWR
		if ro {
			flag = os.O_RDONLY
		}
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		if err := Lock(f, ro); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// OpenPaths opens and locks a stack.
func OpenPaths(paths []string, readOnly bool) (*Stack, error) {
	files, err := OpenFiles(paths, readOnly)
	if err != nil {
		return nil, err
	}
	s, err := Open(files, readOnly)
	if err != nil {
		closeFiles(files)
	}
	return s, err
}

// Open makes a stack of open files, from the bottom to the top: plain files of one size, a multiple of 512 bytes. A file alone may be a block device. The top
// is open for writing unless the stack is read-only. The files are the stack's, which closes them with itself; when Open fails they are the caller's.
func Open(files []*os.File, readOnly bool) (*Stack, error) {
	if len(files) < 1 || len(files) > MaxLayers {
		return nil, fmt.Errorf("%w: %d files, not 1 to %d", ErrLayers, len(files), MaxLayers)
	}
	var infos []os.FileInfo
	var list []file
	size := int64(0)
	for i, f := range files {
		info, n, err := examine(f, len(files) > 1, readOnly || i < len(files)-1)
		if err != nil {
			return nil, err
		}
		if i > 0 && n != size {
			return nil, fmt.Errorf("%w: %s has %d bytes and %s %d", ErrLayers, f.Name(), n, files[0].Name(), size)
		}
		if slices.ContainsFunc(infos, func(o os.FileInfo) bool { return os.SameFile(info, o) }) {
			return nil, fmt.Errorf("%w: %s is there twice", ErrLayers, f.Name())
		}
		size, infos, list = n, append(infos, info), append(list, newHostFile(f))
	}
	s, err := open(list, size, readOnly)
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrLayers, files[len(files)-1].Name(), err)
	}
	return s, nil
}

// examine says how large a layer is.
func examine(f *os.File, plain, readOnly bool) (os.FileInfo, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrLayers, err)
	}
	if t := info.Mode().Type(); t != 0 && (plain || t != os.ModeDevice) {
		return nil, 0, fmt.Errorf("%w: %s is neither a regular file nor a block device alone", ErrLayers, f.Name())
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if mode := flags & unix.O_ACCMODE; err == nil && (mode == unix.O_WRONLY || !readOnly && mode != unix.O_RDWR) {
		err = errors.New("not open for reading and writing")
		if readOnly {
			err = errors.New("not open for reading")
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s: %w", ErrLayers, f.Name(), err)
	}
	size, err := f.Seek(0, io.SeekEnd) // which, unlike Stat, knows a block device's size
	if err != nil {
		return nil, 0, fmt.Errorf("%w: size of %s: %w", ErrLayers, f.Name(), err)
	}
	if size%SectorSize != 0 || size > maxSize {
		return nil, 0, fmt.Errorf("%w: %s has %d bytes, not a multiple of %d up to %d", ErrLayers, f.Name(), size, SectorSize, int64(maxSize))
	}
	return info, size, nil
}

func open(files []file, size int64, readOnly bool) (*Stack, error) {
	var layers []*layer
	for i, f := range files {
		l := &layer{file: f}
		if i > 0 {
			l.blocks = newBitmap(blocksOf(size))
			if err := l.scan(size, true); err != nil {
				return nil, fmt.Errorf("layer %d: %w", i, err)
			}
		}
		layers = append(layers, l)
	}
	s := &Stack{size: size, readOnly: readOnly}
	s.layers.Store(&layers)
	return s, nil
}

// scan reads which blocks a layer has. It has them whole, or is no layer above another.
func (l *layer) scan(size int64, whole bool) error {
	for off := int64(0); off < size; {
		from, to, err := l.data(off, size)
		if err != nil {
			return err
		}
		if from >= size {
			break
		}
		if whole && (from%BlockSize != 0 || to%BlockSize != 0 && to != size) {
			return fmt.Errorf("data from %d to %d is not of whole blocks", from, to)
		}
		l.blocks.set(from/BlockSize, blocksOf(to))
		off = to
	}
	return nil
}

// Size is the disk's, in bytes.
func (s *Stack) Size() int64 { return s.size }

// ReadOnly says whether the stack was opened for reading only.
func (s *Stack) ReadOnly() bool { return s.readOnly }

// Layers is how many there are.
func (s *Stack) Layers() int { return len(*s.layers.Load()) }

// Sync makes what was written before last, in the top and in what was frozen.
func (s *Stack) Sync() error {
	if s.readOnly {
		return nil
	}
	layers := *s.layers.Load()
	// The top is looked up first: if it is frozen after that, it is synced here all the same, as the top that it was.
	if err := s.SyncFrozen(); err != nil {
		return err
	}
	return layers[len(layers)-1].sync()
}

// SyncFrozen brings to the host's disk what was frozen.
func (s *Stack) SyncFrozen() error {
	s.frozenMu.Lock()
	list := slices.Clone(s.frozen)
	s.frozenMu.Unlock()
	for _, l := range list {
		if err := l.sync(); err != nil {
			return err
		}
		s.frozenMu.Lock()
		s.frozen = slices.DeleteFunc(s.frozen, func(o *layer) bool { return o == l })
		s.frozenMu.Unlock()
	}
	return nil
}

// Freeze lays an empty top, made by Create, on the stack: what was written before stays as it is from now on, and others may read it. The file is the stack's; when
// Freeze fails it is the caller's and nothing has changed. It waits for writes in flight, not for the host's disk: what was frozen is there after the next Sync.
func (s *Stack) Freeze(top *os.File) error {
	info, n, err := examine(top, true, false)
	if err != nil {
		return err
	}
	f := newHostFile(top)
	if n != s.size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrLayers, top.Name(), n, s.size)
	}
	from, _, err := f.data(0, n)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLayers, top.Name(), err)
	}
	if from != n {
		return fmt.Errorf("%w: %s is not empty", ErrLayers, top.Name())
	}
	for _, l := range *s.layers.Load() {
		if h, ok := l.file.(*hostFile); ok {
			if o, err := h.Stat(); err != nil || os.SameFile(info, o) {
				return fmt.Errorf("%w: %s is there twice", ErrLayers, top.Name())
			}
		}
	}
	return s.freeze(f)
}

func (s *Stack) freeze(top file) error {
	if s.readOnly {
		return ErrReadOnly
	}
	l := &layer{file: top, blocks: newBitmap(blocksOf(s.size))}
	s.mu.Lock()
	defer s.mu.Unlock()
	layers := *s.layers.Load()
	if len(layers) >= MaxLayers {
		return fmt.Errorf("%w: there are %d already; flatten some", ErrLayers, len(layers))
	}
	old := layers[len(layers)-1]
	if err := old.demote(); err != nil {
		return err
	}
	s.frozenMu.Lock()
	s.frozen = append(s.frozen, old)
	s.frozenMu.Unlock()
	layers = append(slices.Clone(layers), l)
	s.layers.Store(&layers)
	return nil
}

// Push is Freeze, and then brings to the host's disk what was frozen. When that fails the new top stays.
func (s *Stack) Push(top *os.File) error {
	if err := s.Freeze(top); err != nil {
		return err
	}
	if err := s.SyncFrozen(); err != nil {
		return fmt.Errorf("sync what was frozen: %w", err)
	}
	return nil
}

// Close closes the files. Nothing else may be under way or follow.
func (s *Stack) Close() error {
	var err error
	for _, l := range *s.layers.Load() {
		err = errors.Join(err, l.close())
	}
	return err
}
