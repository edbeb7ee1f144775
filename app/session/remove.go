package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killTime is how long Remove waits for a supervisor to end its session in order.
const killTime = 30 * time.Second

// Remove takes a session away with all that it wrote. A running one is refused with ErrAlive unless force is set; then it is ended first.
func (s *Store) Remove(id string, force bool) error {
	if !idPattern.MatchString(id) {
		return &Error{Message: fmt.Sprintf("no session %q", id), Hint: "capsid ps lists them", Kind: ErrUnknown}
	}
	folder := s.paths.Folder(id)
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		return &Error{Message: fmt.Sprintf("no session %q", id), Hint: "capsid ps lists them", Kind: ErrUnknown}
	}
	if alive(folder) {
		if !force {
			return &Error{Message: "session " + id + " is running", Hint: "capsid kill " + id + " ends it; capsid rm --force " + id + " ends and removes it", Kind: ErrAlive}
		}
		if err := s.Kill(context.Background(), id); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
	}
	return s.discard(id)
}

// Kill ends a running session: in order when its supervisor answers, by force when it does not. When it returns nil the supervisor and the machine
// are gone; the folder stays.
func (s *Store) Kill(ctx context.Context, id string) error {
	if !alive(s.paths.Folder(id)) {
		return &Error{Message: "session " + id + " is not running", Hint: "capsid rm " + id + " removes it", Kind: ErrNotRunning}
	}
	limit, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	if err := s.Client(id).Kill(limit); err == nil && s.AwaitEnd(limit, id) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.slay(id)
}

// AwaitEnd returns when no supervisor holds the session's lock: one that has told its last status may take a moment to end.
func (s *Store) AwaitEnd(ctx context.Context, id string) error {
	free := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(filepath.Join(s.paths.Folder(id), lockName), os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = flock(f, unix.LOCK_SH)
			f.Close()
		}
		free <- err
	}()
	select {
	case <-free:
		return nil // a lock that cannot be opened is nobody's
	case <-ctx.Done():
		return ctx.Err()
	}
}

// slay kills a supervisor that does not end by itself. Its machine and its share end with it: their kernel-side ties see to that.
func (s *Store) slay(id string) error {
	data, err := os.ReadFile(filepath.Join(s.paths.Folder(id), lockName))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 || !alive(s.paths.Folder(id)) {
		return fmt.Errorf("the supervisor of session %s does not answer and is not known by number", id)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the supervisor of session %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	if err := s.AwaitEnd(ctx, id); err != nil {
		return fmt.Errorf("the supervisor of session %s (process %d) cannot be ended: %w", id, pid, err)
	}
	return nil
}

// discard removes the folder and socket of a session whose supervisor is gone. The folder loses its name first, so nobody sees half of it.
func (s *Store) discard(id string) error {
	old := filepath.Join(s.paths.Sessions(), ".old-"+id)
	err := os.Rename(s.paths.Folder(id), old)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = os.RemoveAll(old)
	}
	if rmErr := os.Remove(s.paths.Socket(id)); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	if err != nil {
		return fmt.Errorf("remove session %s: %w", id, err)
	}
	return nil
}
