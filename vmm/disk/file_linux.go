package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// file is what a stack needs of a layer's file.
type file interface {
	// read and write move bytes at off and say how many were moved, more than none unless there is an error. With atOnce they give up, with errWait, where they would have to wait.
	read(v [][]byte, off int64, atOnce bool) (int, error)
	write(v [][]byte, off int64, atOnce bool) (int, error)
	sync() error
	// allocate is fallocate(2) that keeps the size.
	allocate(mode uint32, off, n int64) error
	// data is the next range of data at or after off; it begins at end if there is none before that.
	data(off, end int64) (from, to int64, err error)
	// demote makes the lock of a writer that of a reader.
	demote() error
	close() error
}

var errWait = errors.New("would have to wait")

// maxVectors is UIO_MAXIOV of the kernel.
const maxVectors = 1024

// hostFile is a file of the host's.
type hostFile struct {
	*os.File // keeps fd open
	fd       int
	// The file system cannot say whether a read or a write would block.
	readMayBlock, writeMayBlock atomic.Bool
}

func newHostFile(f *os.File) *hostFile { return &hostFile{File: f, fd: int(f.Fd())} }

func (f *hostFile) read(v [][]byte, off int64, atOnce bool) (int, error) {
	n, err := move(unix.Preadv2, &f.readMayBlock, f.fd, v, off, atOnce)
	if n == 0 && err == nil { // someone has made the file shorter
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (f *hostFile) write(v [][]byte, off int64, atOnce bool) (int, error) {
	n, err := move(unix.Pwritev2, &f.writeMayBlock, f.fd, v, off, atOnce)
	if n == 0 && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

func move(call func(int, [][]byte, int64, int) (int, error), mayBlock *atomic.Bool, fd int, v [][]byte, off int64, atOnce bool) (int, error) {
	flags := 0
	if atOnce {
		if flags = unix.RWF_NOWAIT; mayBlock.Load() {
			return 0, errWait
		}
	}
	for {
		n, err := call(fd, v[:min(len(v), maxVectors)], off, flags)
		switch {
		case err == unix.EINTR:
			continue
		case atOnce && err == unix.EOPNOTSUPP:
			mayBlock.Store(true)
			return 0, errWait
		case atOnce && err == unix.EAGAIN:
			return 0, errWait
		}
		return max(n, 0), err
	}
}

func (f *hostFile) sync() error { return again(func() error { return unix.Fdatasync(f.fd) }) }

func (f *hostFile) allocate(mode uint32, off, n int64) error {
	return again(func() error { return unix.Fallocate(f.fd, mode|unix.FALLOC_FL_KEEP_SIZE, off, n) })
}

func (f *hostFile) data(off, end int64) (from, to int64, err error) {
	from, err = unix.Seek(f.fd, off, unix.SEEK_DATA)
	if err == unix.ENXIO || err == nil && from >= end {
		return end, end, nil
	}
	if err == nil {
		to, err = unix.Seek(f.fd, from, unix.SEEK_HOLE)
	}
	if err == nil && (from < off || to <= from) {
		err = errors.New("the file changes")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look for holes: %w", err)
	}
	return from, min(to, end), nil
}

func (f *hostFile) demote() error { return demote(f.File) }

func (f *hostFile) close() error { return f.File.Close() }

// cannot: the file system or the block device does not know the call, or not for a range aligned like this.
func cannot(err error) bool {
	return err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EINVAL
}

func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
