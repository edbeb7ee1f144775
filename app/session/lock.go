package session

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A session's lock file is locked by its supervisor for as long as it lives; the kernel lets go of it however the supervisor ends, so
// the lock tells the truth where status.json may not. It is locked before the session's folder gets its name and handed to the supervisor as
// an open file: there is no moment in which a session that is coming up looks dead.
const lockName = "lock"

// tryLock locks path; it makes the file. nil, nil means that another holds it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	for errors.Is(err, unix.EWOULDBLOCK) && flock(f, unix.LOCK_SH|unix.LOCK_NB) == nil {
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB) // a probe was in the way, for a moment
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	// The process whose number the file has is gone, and the number may be another's by now: nobody may end that one for it.
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// alive reports whether a supervisor holds the session's lock. Probes take the lock shared, so they never see one another.
func alive(folder string) bool {
	f, err := os.OpenFile(filepath.Join(folder, lockName), os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flock(f, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
