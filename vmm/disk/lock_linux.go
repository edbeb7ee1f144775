package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrInUse: another machine has the disk.
var ErrInUse = errors.New("in use by another machine")

// The locks of QEMU (block/file-posix.c: RAW_LOCK_PERM_BASE 100 for what a user does, RAW_LOCK_SHARED_BASE 200 for what it lets no other do, plus the bit
// of the permission).
const (
	lockConsistentRead = 100
	lockWrite          = 101
	lockOthersWrite    = 201
	lockFirst          = 100
	lockCount          = 200
)

// Lock keeps machines from writing a disk that another has, as QEMU does it, so that its machines are kept out too: open file description locks on
// single bytes. A reader locks "consistent read" and "no other writes"; a writer has all of them for itself. The lock lasts as long as
// the open file description: until the last descriptor of it is closed, in whatever process.
func Lock(f *os.File, readOnly bool) error {
	if !readOnly {
		return setLock(f, unix.F_WRLCK, lockFirst, lockCount)
	}
	for _, at := range []int64{lockConsistentRead, lockOthersWrite} {
		if err := setLock(f, unix.F_RDLCK, at, 1); err != nil {
			return err
		}
	}
	other := unix.Flock_t{Type: unix.F_WRLCK, Start: lockWrite, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &other); err != nil {
		return fmt.Errorf("lock: %s: %w", f.Name(), err)
	}
	if other.Type != unix.F_UNLCK {
		return fmt.Errorf("lock: %s is %w", f.Name(), ErrInUse)
	}
	return nil
}

// demote makes a writer's lock a reader's, without a moment in which there is none.
func demote(f *os.File) error {
	for _, l := range []struct {
		kind     int16
		start, n int64
	}{
		{unix.F_RDLCK, lockConsistentRead, 1}, {unix.F_RDLCK, lockOthersWrite, 1},
		{unix.F_UNLCK, lockWrite, lockOthersWrite - lockWrite}, {unix.F_UNLCK, lockOthersWrite + 1, lockFirst + lockCount - lockOthersWrite - 1},
	} {
		if err := setLock(f, l.kind, l.start, l.n); err != nil {
			return err
		}
	}
	return nil
}

func setLock(f *os.File, kind int16, start, n int64) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: n})
	if err == unix.EAGAIN || err == unix.EACCES {
		return fmt.Errorf("lock: %s is %w", f.Name(), ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("lock: %s: %w", f.Name(), err)
	}
	return nil
}
