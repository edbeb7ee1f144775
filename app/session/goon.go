package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Branch makes a session that goes on from sess.Parent: of sess, ID and Created are filled in, and Name if it is empty. furnish puts the disks into the new session's
// folder. The rest is as with Start; an empty executable is the capsid program beside the running one.
func (s *Store) Branch(ctx context.Context, sess Session, executable string, furnish func(folder string) error, onStatus func(Status)) (Status, error) {
	if err := s.room(); err != nil {
		return Status{}, err
	}
	exe, err := program(executable)
	if err != nil {
		return Status{}, err
	}
	return s.launch(ctx, sess, exe, furnish, onStatus)
}

// GoOn starts a session that has ended again, from sess.Parent. furnish puts the disks into its folder; end is called with whether the session runs: it takes away what was
// there before, or brings it back. On failure the session is as it was. One that runs is refused with ErrAlive.
func (s *Store) GoOn(ctx context.Context, sess Session, executable string, furnish func(folder string) (end func(runs bool) error, err error), onStatus func(Status)) (Status, error) {
	exe, err := program(executable)
	if err != nil {
		return Status{}, err
	}
	folder := s.paths.Folder(sess.ID)
	lock, err := tryLock(filepath.Join(folder, lockName))
	if err != nil {
		return Status{}, err
	}
	if lock == nil {
		return Status{}, &Error{Message: "session " + sess.Name + " is running", Hint: "capsid kill " + sess.Name + " ends it", Kind: ErrAlive}
	}
	before, err := keep(filepath.Join(folder, "session.json"), filepath.Join(folder, "status.json"))
	if err != nil {
		lock.Close()
		return Status{}, err
	}
	end, err := furnish(folder)
	if err != nil {
		lock.Close()
		return Status{}, full(err)
	}
	st := Status{Session: sess, State: Starting}
	if err = WriteJSON(filepath.Join(folder, "session.json"), sess); err != nil {
		lock.Close()
	} else {
		st, err = s.run(ctx, exe, sess, lock, onStatus)
	}
	if err == nil {
		return st, end(true)
	}
	if undoErr := errors.Join(end(false), before.bringBack()); undoErr != nil {
		err = fmt.Errorf("%w (and %v)", err, undoErr)
	}
	return st, err
}

// kept are files as they were.
type kept map[string][]byte

func keep(paths ...string) (kept, error) {
	k := kept{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		k[path] = data
	}
	return k, nil
}

func (k kept) bringBack() error {
	var errs []error
	for path, data := range k {
		if data == nil {
			errs = append(errs, os.RemoveAll(path))
			continue
		}
		errs = append(errs, replace(path, data))
	}
	return errors.Join(errs...)
}
