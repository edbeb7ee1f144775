package share

import (
	"golang.org/x/sys/unix"
)

// identity tells one file from every other that exists or existed in the folder: an inode number is given away again,
// the moment of birth is not. Where a file system keeps no birth time, born is 0 and the kind alone guards.
type identity struct {
	dev  uint64
	ino  uint64
	born int64 // nanoseconds since 1970
	kind uint16
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// statAt looks at one name in dir, or at dir itself for "". It follows nothing and mounts nothing.
func statAt(dir int, name string) (unix.Statx_t, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var st unix.Statx_t
	err := retry(func() error { return unix.Statx(dir, name, flags, statMask, &st) })
	return st, err
}

func identify(st *unix.Statx_t) identity {
	id := identity{
		dev:  unix.Mkdev(st.Dev_major, st.Dev_minor),
		ino:  st.Ino,
		kind: st.Mode & unix.S_IFMT,
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id
}

// openAt opens one name in dir as a mere reference: nothing is read, no device or FIFO is touched, a link is itself.
func openAt(dir int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat2(dir, name, &how)
		return err
	})
	return fd, err
}

// retry repeats a call that a signal of the Go runtime has interrupted, or that openat2 could not finish for a rename elsewhere
// (EAGAIN). The number is bounded: somebody may rename all day.
func retry(call func() error) error {
	var err error
	for range 64 {
		err = call()
		if err != unix.EINTR && err != unix.EAGAIN {
			return err
		}
	}
	return err
}
