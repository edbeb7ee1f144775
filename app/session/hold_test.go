package session

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHold(t *testing.T) {
	s := testStore(t)
	sess, lock := add(t, s, "")
	if _, err := s.Hold(sess.ID); !errors.Is(err, ErrAlive) {
		t.Fatalf("one that runs: %v", err)
	}
	if err := WritePID(lock); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	release, err := s.Hold(sess.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hold(sess.ID); !errors.Is(err, ErrAlive) {
		t.Errorf("one that is held: %v", err)
	}
	if err := s.Remove(sess.ID, false); !errors.Is(err, ErrAlive) {
		t.Errorf("remove one that is held: %v", err)
	}
	// Else Kill would end a process that has nothing to do with it.
	if data, err := os.ReadFile(filepath.Join(s.paths.Folder(sess.ID), lockName)); err != nil || len(data) > 0 {
		t.Errorf("the lock still names a process: %q, %v", data, err)
	}
	release()
	if err := s.Remove(sess.ID, false); err != nil {
		t.Error(err)
	}
	if _, err := s.Hold(sess.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("one that is gone: %v", err)
	}
}

// A probe holds the lock shared: that is no supervisor.
func TestLockAgainstProbes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	probing, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(probing)
		for {
			select {
			case <-stop:
				return
			default:
			}
			f, err := os.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			flock(f, unix.LOCK_SH|unix.LOCK_NB)
			f.Close()
		}
	}()
	for range 2000 {
		f, err := tryLock(path)
		if err != nil || f == nil {
			t.Errorf("%v, %v", f, err)
			break
		}
		f.Close()
	}
	close(stop)
	<-probing
}
