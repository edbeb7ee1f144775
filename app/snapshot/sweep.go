package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// In the folder of a session's snapshots there are, beside those, the mutex under which folders get and lose names; drafts, each locked (flock(2), on the folder itself) by
// the program that makes it, so that the kernel lets go however that ends; and folders that are being removed.
const (
	mutexFile   = ".lock"
	draftPrefix = ".new-"
	oldPrefix   = ".old-"
)

func isDraft(name string) bool { return strings.HasPrefix(name, draftPrefix) }

// lockFolder takes the mutex; closing what it returns lets go.
func lockFolder(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, mutexFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockDraft locks a draft; nil, nil means that its program lives.
func lockDraft(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// sweep removes what killed programs left half made or half removed. The caller holds the mutex. What cannot be removed stays hidden.
func sweep(folder string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), oldPrefix):
			os.RemoveAll(path)
		case isDraft(e.Name()):
			if f, err := lockDraft(path); err == nil && f != nil {
				os.RemoveAll(path)
				f.Close()
			}
		}
	}
}

// taken reports whether something has the name.
func taken(folder, name string) bool {
	_, err := os.Lstat(filepath.Join(folder, name))
	return !errors.Is(err, os.ErrNotExist)
}
