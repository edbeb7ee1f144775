package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// create makes empty layers.
func create(t testing.TB, dir string, size int64, names ...string) []string {
	t.Helper()
	var paths []string
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := Create(path, size); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func openPaths(t testing.TB, paths []string, readOnly bool) *Stack {
	t.Helper()
	s, err := OpenPaths(paths, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func push(t testing.TB, s *Stack, path string) {
	t.Helper()
	f, err := OpenFiles([]string{path}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Push(f[0]); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, s *Stack, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := s.ReadAt(got, 0); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: byte %d of block %d is %#x, not %#x", what, i%BlockSize, i/BlockSize, got[i], want[i])
		}
	}
}

// The real thing against a slice of bytes, with operations of odd sizes; on a file system and in memory, where there is no ZERO_RANGE.
func TestModel(t *testing.T) {
	for name, parent := range map[string]string{"file system": "", "memory": "/dev/shm"} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				dir, err := os.MkdirTemp(parent, "disk")
				if err != nil {
					t.Skip(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				model(t, dir, rand.New(rand.NewPCG(seed, 1)))
			})
		}
	}
}

func model(t *testing.T, dir string, r *rand.Rand) {
	const size = 200*BlockSize + 512
	paths := create(t, dir, size, "0")
	s := openPaths(t, paths, false)
	want := make([]byte, size)
	var frozen [][]byte
	for step := range 1500 {
		off := r.IntN(size)
		n := 1 + r.IntN(min(size-off, 1<<r.IntN(18)))
		if r.IntN(3) == 0 {
			off, n = off/BlockSize*BlockSize, min(size-off/BlockSize*BlockSize, (n+BlockSize-1)/BlockSize*BlockSize)
		}
		switch op := r.IntN(100); {
		case op < 35:
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(r.Uint32() | 1)
			}
			copy(want[off:], p)
			var v [][]byte // in pieces
			for rest := p; len(rest) > 0; {
				m := 1 + r.IntN(len(rest))
				if r.IntN(50) == 0 && len(rest) > 3000 { // more than the kernel takes at once
					for range 2000 {
						v, rest = append(v, rest[:1]), rest[1:]
					}
					continue
				}
				v, rest = append(v, rest[:m]), rest[m:]
			}
			done, err := s.Writev(v, int64(off), true)
			if err == nil && done < n {
				_, err = s.WriteAt(p[done:], int64(off+done))
			}
			if err != nil {
				t.Fatal(err)
			}
		case op < 65:
			p := make([]byte, n)
			half := n / 2
			done, err := s.Readv([][]byte{p[:half], p[half:]}, int64(off), op%2 == 0)
			if err == nil && done < n {
				_, err = s.ReadAt(p[done:], int64(off+done))
			}
			if err != nil || !bytes.Equal(p, want[off:off+n]) {
				t.Fatalf("step %d: read %d bytes at %d: %v", step, n, off, err)
			}
		case op < 75:
			clear(want[off : off+n])
			if err := s.Zero(int64(off), int64(n), op%2 == 0); err != nil {
				t.Fatal(err)
			}
		case op < 85:
			if err := s.Discard(int64(off), int64(n)); err != nil {
				t.Fatal(err)
			}
			// Each block, as far as it lies in the range, is zeros or what it was; nothing else has changed.
			got := make([]byte, size)
			if _, err := s.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			for b := off / BlockSize; b*BlockSize < off+n; b++ {
				lo, hi := max(off, b*BlockSize), min(off+n, (b+1)*BlockSize)
				if bytes.Equal(got[lo:hi], make([]byte, hi-lo)) {
					clear(want[lo:hi])
				}
			}
			same(t, fmt.Sprintf("step %d: discard %d bytes at %d", step, n, off), s, want)
		case op < 90:
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		case op < 95:
			if len(paths) < 6 {
				frozen = append(frozen, bytes.Clone(want))
				top := create(t, dir, size, fmt.Sprint(len(paths)))
				push(t, s, top[0])
				paths = append(paths, top...)
			}
		case op < 98:
			s.Close()
			s = openPaths(t, paths, false)
			same(t, "reopened", s, want)
		default:
			flat := filepath.Join(dir, "flat")
			s.Close()
			from := r.IntN(len(paths))
			if err := Flatten(t.Context(), flat, paths[from:], FlattenOptions{Above: from > 0}); err != nil {
				t.Fatal(err)
			}
			f := openPaths(t, append(append([]string{}, paths[:from]...), flat), true)
			same(t, fmt.Sprintf("flattened from %d", from), f, want)
			f.Close()
			if r.IntN(3) == 0 { // and go on with it
				if err := os.Rename(flat, paths[from]); err != nil {
					t.Fatal(err)
				}
				for _, path := range paths[from+1:] {
					os.Remove(path)
				}
				paths, frozen = paths[:from+1], frozen[:from]
			}
			s = openPaths(t, paths, false)
		}
	}
	same(t, "at last", s, want)
	for i, want := range frozen {
		same(t, fmt.Sprintf("frozen layer %d", i), openPaths(t, paths[:i+1], true), want)
	}
	if len(frozen) == 0 {
		t.Error("nothing was frozen")
	}
}

// Writes of many at once, each to its own sectors within common blocks: none is lost.
func TestSideBySide(t *testing.T) {
	const size, writers = 64 * BlockSize, 8
	dir := t.TempDir()
	paths := create(t, dir, size, "0", "1", "2", "3")
	s := openPaths(t, paths[:1], false)
	want := make([]byte, size)
	for i := range want {
		want[i] = 0xee
	}
	if _, err := s.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	push(t, s, paths[1])
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			for range 2000 {
				at := (r.IntN(size/SectorSize/writers)*writers + w) * SectorSize
				p := bytes.Repeat([]byte{byte(r.IntN(256))}, SectorSize)
				copy(want[at:], p)
				if _, err := s.WriteAt(p, int64(at)); err != nil {
					t.Error(err)
				}
				got := make([]byte, SectorSize)
				if _, err := s.ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, p) {
					t.Errorf("sector %d: %v", at/SectorSize, err)
				}
			}
		})
	}
	for _, path := range paths[2:] {
		push(t, s, path)
	}
	wg.Wait()
	same(t, "afterwards", s, want)
	s.Close()
	same(t, "reopened", openPaths(t, paths, false), want)
}

// Zeros hide what is below; where nothing is, they take no room; and a discard brings nothing old back.
func TestZerosAndRoom(t *testing.T) {
	const size = 1 << 20
	paths := create(t, t.TempDir(), size, "0", "1", "2")
	s := openPaths(t, paths[:1], false)
	half := bytes.Repeat([]byte{1}, size/2)
	if _, err := s.WriteAt(half, 0); err != nil {
		t.Fatal(err)
	}
	push(t, s, paths[1])
	all := bytes.Repeat([]byte{2}, size)
	if _, err := s.WriteAt(all, 0); err != nil {
		t.Fatal(err)
	}
	room := func() int64 {
		t.Helper()
		n, err := Allocated(paths[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	full := room()
	if err := s.Discard(0, size); err != nil {
		t.Fatal(err)
	}
	if freed := full - room(); freed < size/2-64<<10 {
		t.Errorf("a discard gave back %d bytes of the %d below which nothing is", freed, size/2)
	}
	same(t, "discarded", s, append(bytes.Repeat([]byte{2}, size/2), make([]byte, size/2)...))
	if err := s.Zero(0, size, true); err != nil {
		t.Fatal(err)
	}
	same(t, "zeroed", s, make([]byte, size))
	if n := room(); n > size/2+64<<10 {
		t.Errorf("zeros take %d bytes", n)
	}
	s.Close()
	s = openPaths(t, paths[:2], false)
	same(t, "reopened", s, make([]byte, size))
	s.Close()
	// By itself, the flattened disk is empty.
	flat := filepath.Join(t.TempDir(), "flat")
	if err := Flatten(t.Context(), flat, paths[:2], FlattenOptions{}); err != nil {
		t.Fatal(err)
	}
	if n, err := Allocated(flat); err != nil || n > 64<<10 {
		t.Errorf("a disk of zeros takes %d bytes, %v", n, err)
	}
}

func TestFlatten(t *testing.T) {
	const size = 8 << 20
	dir := t.TempDir()
	paths := create(t, dir, size, "0", "1")
	s := openPaths(t, paths[:1], false)
	if _, err := s.WriteAt(bytes.Repeat([]byte{7}, size/2), size/4); err != nil {
		t.Fatal(err)
	}
	s.Close()
	flat := filepath.Join(dir, "flat")
	var last, total int64
	calls := 0
	o := FlattenOptions{Progress: func(d, n int64) {
		if d < last || calls > 0 && n != total {
			t.Errorf("progress %d of %d after %d of %d", d, n, last, total)
		}
		last, total, calls = d, n, calls+1
	}}
	if err := Flatten(t.Context(), flat, paths, o); err != nil || last != total || total != size/2 || calls < 4 {
		t.Errorf("%v; progress %d of %d in %d calls", err, last, total, calls)
	}
	before, err := os.ReadFile(flat)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Flatten(ctx, flat, paths, FlattenOptions{Progress: func(d, _ int64) {
		if d > 0 {
			cancel()
		}
	}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	after, err := os.ReadFile(flat)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a flatten that was cancelled has changed the file (%v)", err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
	// One that was killed leaves a part, which is in nobody's way.
	if err := os.WriteFile(flat+".part", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Flatten(t.Context(), flat, paths, FlattenOptions{}); err != nil {
		t.Error(err)
	}
	// What is being written is not flattened.
	w := openPaths(t, paths, false)
	if err := Flatten(t.Context(), flat, paths, FlattenOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("of a disk in use: %v", err)
	}
	w.Close()
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	paths := create(t, dir, 16*BlockSize, "a", "b", "c")
	other := create(t, dir, 8*BlockSize, "other")[0]
	odd := filepath.Join(dir, "odd")
	if err := os.WriteFile(odd, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Link(paths[0], link); err != nil {
		t.Fatal(err)
	}
	files := func(flag int, paths ...string) (list []*os.File) {
		for _, path := range paths {
			f, err := os.OpenFile(path, flag, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			list = append(list, f)
		}
		return list
	}
	for name, c := range map[string]struct {
		files    []*os.File
		readOnly bool
		want     string
	}{
		"none":             {nil, false, "0 files"},
		"too many":         {files(os.O_RDWR, times(paths[0], MaxLayers+1)...), false, "65 files"},
		"another size":     {files(os.O_RDWR, paths[0], other), false, "65536"},
		"an odd size":      {files(os.O_RDWR, odd), false, "1000 bytes"},
		"a folder":         {files(os.O_RDONLY, dir), true, "neither"},
		"a device":         {files(os.O_RDWR, "/dev/null"), false, "neither"},
		"twice":            {files(os.O_RDWR, paths[0], paths[0]), false, "twice"},
		"twice by a link":  {files(os.O_RDWR, paths[0], paths[1], link), false, "twice"},
		"top for reading":  {files(os.O_RDONLY, paths[0], paths[1]), false, "not open for reading and writing"},
		"below for writes": {append(files(os.O_WRONLY, paths[0]), files(os.O_RDWR, paths[1])...), false, "not open for reading"},
		"for writes only":  {files(os.O_WRONLY, paths[0]), true, "not open for reading"},
	} {
		if _, err := Open(c.files, c.readOnly); !errors.Is(err, ErrLayers) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := openPaths(t, paths[:1], false)
	dirty := files(os.O_RDWR, paths[2])[0]
	if _, err := dirty.WriteAt([]byte("x"), 5000); err != nil {
		t.Fatal(err)
	}
	for want, top := range map[string]*os.File{
		"bytes, not": files(os.O_RDWR, other)[0],
		"not empty":  dirty,
		"twice":      files(os.O_RDWR, link)[0],
		"not open":   files(os.O_RDONLY, paths[1])[0],
		"neither":    files(os.O_RDWR, "/dev/null")[0],
	} {
		if err := s.Push(top); !errors.Is(err, ErrLayers) || !strings.Contains(err.Error(), want) {
			t.Errorf("push: %s: %v", want, err)
		}
	}
	if s.Layers() != 1 {
		t.Error("something was pushed")
	}
	s.Close()
	ro := openPaths(t, paths, true)
	_, write := ro.WriteAt([]byte("x"), 0)
	for name, err := range map[string]error{
		"write": write, "zero": ro.Zero(0, 512, false), "discard": ro.Discard(0, 512), "push": ro.Push(files(os.O_RDWR, create(t, dir, 16*BlockSize, "d")...)[0]),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ro.Close()
	s = openPaths(t, paths, false)
	for _, r := range [][2]int64{{-1, 1}, {16 * BlockSize, 1}, {16*BlockSize - 1, 2}, {1 << 62, 1 << 20}, {0, -1}, {1<<63 - 1, 1<<63 - 1}} {
		if err := s.Zero(r[0], r[1], false); !errors.Is(err, ErrRange) {
			t.Errorf("zero %d at %d: %v", r[1], r[0], err)
		}
		if err := s.Discard(r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("discard %d at %d: %v", r[1], r[0], err)
		}
		if _, err := s.ReadAt(make([]byte, max(0, min(r[1], 4096))), r[0]); r[1] > 0 && !errors.Is(err, ErrRange) {
			t.Errorf("read %d at %d: %v", r[1], r[0], err)
		}
	}
	for _, size := range []int64{-512, 1000, maxSize + 512} {
		path := filepath.Join(dir, "new")
		if err := Create(path, size); !errors.Is(err, ErrLayers) {
			t.Errorf("create %d: %v", size, err)
		}
	}
	if err := Create(paths[0], 512); !errors.Is(err, os.ErrExist) {
		t.Errorf("create over another: %v", err)
	}
	if err := Create("/proc/new", 512); err == nil {
		t.Error("created in a place that holds no files")
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "new")); names != nil {
		t.Errorf("left: %q", names)
	}
}

func times(s string, n int) (list []string) {
	for range n {
		list = append(list, s)
	}
	return list
}

// A stack has a bound, and a stack of that height still works.
func TestHighest(t *testing.T) {
	const size = MaxLayers * BlockSize
	dir := t.TempDir()
	paths := create(t, dir, size, "0")
	s := openPaths(t, paths, false)
	want := make([]byte, size)
	for i := range MaxLayers {
		p := bytes.Repeat([]byte{byte(i + 1)}, BlockSize)
		copy(want[i*BlockSize:], p)
		if _, err := s.WriteAt(p, int64(i*BlockSize)); err != nil {
			t.Fatal(err)
		}
		path := create(t, dir, size, fmt.Sprint(i+1))
		f, err := OpenFiles(path, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Push(f[0]); (err == nil) != (i < MaxLayers-1) {
			t.Fatalf("layer %d: %v", i+2, err)
		} else if err != nil {
			f[0].Close()
			break
		}
		paths = append(paths, path...)
	}
	same(t, "a high stack", s, want)
	s.Close()
	same(t, "reopened", openPaths(t, paths, false), want)
}

// A disk that is full: what could not be written whole is not there at all.
func TestFull(t *testing.T) {
	h := &host{budget: -1}
	const size = 16 * BlockSize
	below, top := h.newFile(size), h.newFile(size)
	if _, err := below.write([][]byte{bytes.Repeat([]byte{1}, size)}, 0, false); err != nil {
		t.Fatal(err)
	}
	s, err := open([]file{below, &fullFile{memFile: top, room: 5*BlockSize + 100}}, size, false)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.WriteAt(bytes.Repeat([]byte{2}, 8*BlockSize), 512)
	if !errors.Is(err, unix.ENOSPC) || n != 5*BlockSize-512 {
		t.Errorf("%d bytes written, %v", n, err)
	}
	same(t, "full", s, concat(bytes.Repeat([]byte{1}, 512), bytes.Repeat([]byte{2}, 5*BlockSize-512), bytes.Repeat([]byte{1}, 11*BlockSize)))
	s, err = open([]file{below, top}, size, false)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "reopened", s, concat(bytes.Repeat([]byte{1}, 512), bytes.Repeat([]byte{2}, 5*BlockSize-512), bytes.Repeat([]byte{1}, 11*BlockSize)))
}

func concat(list ...[]byte) []byte { return bytes.Join(list, nil) }

// fullFile has room for some bytes.
type fullFile struct {
	*memFile
	room int
}

func (f *fullFile) write(v [][]byte, off int64, atOnce bool) (int, error) {
	all := bytes.Join(v, nil)
	if f.room == 0 {
		return 0, unix.ENOSPC
	}
	all = all[:min(len(all), f.room)]
	f.room -= len(all)
	return f.memFile.write([][]byte{all}, off, atOnce)
}
