package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrHoles: the file system does not keep holes block by block, so that no layer can be there.
var ErrHoles = errors.New("the file system cannot hold layers of a disk")

// Create makes a layer that is empty: a new file of that size with nothing in it, which is on the host's disk when Create returns. It tries out that the file
// system keeps apart what was written, zeros too, and what was not. On failure nothing is left.
func Create(path string, size int64) (err error) {
	if size < 0 || size%SectorSize != 0 || size > maxSize {
		return fmt.Errorf("%w: %s: %d bytes is not a multiple of %d up to %d", ErrLayers, path, size, SectorSize, int64(maxSize))
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(path)
		}
	}()
	if err := tryHoles(newHostFile(f)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(path)
}

// tryHoles writes a block of zeros between two holes and looks whether just that is data then. Where blocks are smaller than a layer's, a crash could leave
// half a block; where they are larger, zeros would come with what is written; and some file systems make holes of zeros.
func tryHoles(f *hostFile) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(f.fd, &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if fs.Bsize < BlockSize {
		return fmt.Errorf("%w: its blocks have %d bytes, less than %d", ErrHoles, fs.Bsize, BlockSize)
	}
	const blocks = 64 // of which one in the middle is written
	if err := f.Truncate(blocks * BlockSize); err != nil {
		return err
	}
	const at = blocks / 2 * BlockSize
	if _, err := f.WriteAt(make([]byte, BlockSize), at); err != nil {
		return err
	}
	from, to, err := f.data(0, blocks*BlockSize)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHoles, err)
	}
	if from != at || to != at+BlockSize {
		return fmt.Errorf("%w: a block written at %d is data from %d to %d", ErrHoles, at, from, to)
	}
	if err := f.allocate(unix.FALLOC_FL_PUNCH_HOLE, at, BlockSize); err != nil {
		return fmt.Errorf("%w: make a hole: %w", ErrHoles, err)
	}
	if from, _, err = f.data(0, blocks*BlockSize); err == nil && from != blocks*BlockSize {
		err = fmt.Errorf("%w: a hole made at %d is data", ErrHoles, from)
	}
	return err
}

// syncDir makes a file's name last.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", d.Name(), err)
	}
	return nil
}

// Allocated is how many bytes of the host's disk a file takes: what deleting it frees, unless another file shares its blocks (reflinks).
func Allocated(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: %w", path, errors.ErrUnsupported)
	}
	return stat.Blocks * 512, nil // st_blocks counts in 512 bytes, whatever the file system has (inode(7))
}
