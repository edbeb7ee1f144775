package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flag int) *os.File {
		o, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { o.Close() })
		return o
	}
	lock := func(name string, readOnly, want bool) *os.File {
		t.Helper()
		flag := os.O_RDWR
		if readOnly {
			flag = os.O_RDONLY
		}
		o := open(flag)
		err := Lock(o, readOnly)
		if (err == nil) != want || err != nil && (!errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "lock")) {
			t.Fatalf("%s: %v", name, err)
		}
		return o
	}
	a := lock("a reader", true, true)
	b := lock("a second reader", true, true)
	lock("a writer beside readers", false, false)
	a.Close()
	b.Close()
	w := lock("a writer", false, true)
	lock("a second writer", false, false).Close()
	lock("a reader beside a writer", true, false).Close()
	// Another descriptor of the same open file keeps the lock.
	fd, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	lock("a writer beside a descriptor that was handed on", false, false).Close()
	unix.Close(fd)
	lock("a writer after all", false, true).Close()

	// A writer of QEMU's has shared locks on what it does and on what it does not let others do.
	q := open(os.O_RDWR)
	for _, at := range []int64{100, 101, 103, 201, 203} {
		if err := unix.FcntlFlock(q.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}); err != nil {
			t.Fatal(err)
		}
	}
	lock("a reader beside QEMU", true, false)
	lock("a writer beside QEMU", false, false)
}

// What is frozen may be read by others, and be written by nobody.
func TestDemote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := Create(path, 4096); err != nil {
		t.Fatal(err)
	}
	files, err := OpenFiles([]string{path}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(files)
	if _, err := OpenFiles([]string{path}, true); !errors.Is(err, ErrInUse) {
		t.Errorf("a reader beside a writer: %v", err)
	}
	if err := demote(files[0]); err != nil {
		t.Fatal(err)
	}
	readers, err := OpenFiles([]string{path}, true)
	if err != nil {
		t.Fatalf("a reader beside what is frozen: %v", err)
	}
	closeFiles(readers)
	if _, err := OpenFiles([]string{path}, false); !errors.Is(err, ErrInUse) {
		t.Errorf("a writer beside what is frozen: %v", err)
	}
}
