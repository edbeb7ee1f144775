package virtio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// disk is a file as a backing.
type disk struct {
	file *os.File // keeps fd open
	fd   int
	// The file system cannot say whether a read or a write would block.
	mayBlock [2]atomic.Bool
}

// maxVectors is UIO_MAXIOV of the kernel.
const maxVectors = 1024

func (d *disk) writable() error {
	flags, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_ACCMODE != unix.O_RDWR {
		err = errors.New("not open for reading and writing")
	}
	return err
}

// transfer copies straight between the file and guest memory.
func (d *disk) transfer(r *blockRequest, atOnce bool) (bool, error) {
	flags, mayBlock, move := 0, &d.mayBlock[r.kind], unix.Preadv2
	if r.kind == blockOut {
		move = unix.Pwritev2
	}
	if atOnce {
		if flags = unix.RWF_NOWAIT; mayBlock.Load() {
			return false, nil
		}
	}
	for r.data = skip(r.data, 0); len(r.data) > 0; {
		n, err := move(d.fd, r.data[:min(len(r.data), maxVectors)], r.off, flags)
		switch {
		case err == unix.EINTR:
		case atOnce && err == unix.EAGAIN:
			return false, nil
		case atOnce && err == unix.EOPNOTSUPP:
			mayBlock.Store(true)
			return false, nil
		case err != nil:
			return false, err
		case n == 0: // someone has made the file shorter
			return false, io.ErrUnexpectedEOF
		default:
			r.data, r.off = skip(r.data, n), r.off+int64(n)
		}
	}
	return true, nil
}

func (d *disk) sync() error { return again(func() error { return unix.Fdatasync(d.fd) }) }

// discard gives a range back to the host. That a file system cannot is no error: the driver has only said that it needs the range no more.
func (d *disk) discard(p blockRange) error {
	if err := d.allocate(unix.FALLOC_FL_PUNCH_HOLE, p); err != nil && !cannot(err) {
		return err
	}
	return nil
}

// zero makes a range read as zeroes, by the cheapest way that the file system has.
func (d *disk) zero(p blockRange) error {
	modes := []uint32{unix.FALLOC_FL_ZERO_RANGE}
	if p.unmap {
		modes = []uint32{unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE}
	}
	for _, mode := range modes {
		if err := d.allocate(mode, p); err == nil || !cannot(err) {
			return err
		}
	}
	return d.writeZeroes(p)
}

func (d *disk) writeZeroes(p blockRange) error {
	zeroes := make([]byte, 64<<10)
	r := blockRequest{kind: blockOut, off: p.off}
	for left := int(p.len); left > 0; {
		r.data = r.data[:0]
		for len(r.data) < 16 && left > 0 {
			n := min(left, len(zeroes))
			r.data, left = append(r.data, zeroes[:n]), left-n
		}
		if _, err := d.transfer(&r, false); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) allocate(mode uint32, p blockRange) error {
	return again(func() error { return unix.Fallocate(d.fd, mode|unix.FALLOC_FL_KEEP_SIZE, p.off, p.len) })
}

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

// ErrInUse: another machine has the disk.
var ErrInUse = errors.New("in use by another machine")

// LockDisk keeps machines from writing a disk that another has, as QEMU does it, so that its machines are kept out too: open file description locks on
// single bytes (block/file-posix.c: RAW_LOCK_PERM_BASE 100 for what a user does, RAW_LOCK_SHARED_BASE 200 for what it lets no other do, plus the bit of
// the permission). A reader locks "consistent read" and "no other writes"; a writer has all of them for itself. The lock lasts as long as
// the open file description: until the last descriptor of it is closed, in whatever process.
func LockDisk(f *os.File, readOnly bool) error {
	const consistentRead, write, othersWrite, first, count = 100, 101, 201, 100, 200
	set := func(kind int16, start, n int64) error {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: n})
		if err == unix.EAGAIN || err == unix.EACCES {
			return fmt.Errorf("lock: %s is %w", f.Name(), ErrInUse)
		}
		if err != nil {
			return fmt.Errorf("lock: %s: %w", f.Name(), err)
		}
		return nil
	}
	if !readOnly {
		return set(unix.F_WRLCK, first, count)
	}
	for _, at := range []int64{consistentRead, othersWrite} {
		if err := set(unix.F_RDLCK, at, 1); err != nil {
			return err
		}
	}
	other := unix.Flock_t{Type: unix.F_WRLCK, Start: write, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &other); err != nil {
		return fmt.Errorf("lock: %s: %w", f.Name(), err)
	}
	if other.Type != unix.F_UNLCK {
		return fmt.Errorf("lock: %s is %w", f.Name(), ErrInUse)
	}
	return nil
}
