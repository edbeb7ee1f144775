package session

import (
	"errors"
	"os"
	"path/filepath"
)

// Hold keeps a session that does not run from being started until release is called. One that runs, or that another holds, is refused with ErrAlive.
func (s *Store) Hold(id string) (release func(), err error) {
	lock, err := tryLock(filepath.Join(s.paths.Folder(id), lockName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &Error{Message: "no session " + id, Hint: "capsid ps lists them", Kind: ErrUnknown}
	case err != nil:
		return nil, err
	case lock == nil:
		return nil, &Error{Message: "session " + id + " is running", Hint: "capsid kill " + id + " ends it", Kind: ErrAlive}
	}
	return func() { lock.Close() }, nil
}
