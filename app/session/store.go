package session

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Store is the set of a person's sessions: the folder that holds theirs. It keeps nothing in memory, so any number of
// programs may use it side by side.
type Store struct {
	paths Paths
}

// OpenStore makes the folders if they are missing.
func OpenStore(p Paths) (*Store, error) {
	if err := p.prepare(); err != nil {
		return nil, fmt.Errorf("open sessions: %w", err)
	}
	return &Store{paths: p}, nil
}

// Paths returns where things lie.
func (s *Store) Paths() Paths { return s.paths }

// Client speaks to a session's supervisor; whether one lives shows at the first call.
func (s *Store) Client(id string) *Client { return NewClient(s.paths.Socket(id)) }

var (
	idPattern   = regexp.MustCompile(`^[0-9a-f]{8}$`)
	namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)
)

// maxName is the longest that namePattern takes.
const maxName = 41

// List returns all sessions, the oldest first. A session whose supervisor is gone is never listed as running.
func (s *Store) List() ([]Status, error) {
	entries, err := os.ReadDir(s.paths.Sessions())
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var list []Status
	for _, e := range entries {
		if !e.IsDir() || !idPattern.MatchString(e.Name()) {
			continue
		}
		st, err := s.read(e.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			st = Status{Session: Session{ID: e.Name(), Name: e.Name()}, State: Failed, Error: err.Error(), Hint: "capsid rm " + e.Name()}
		}
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b Status) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// read returns a session as it is on disk, corrected by whether its supervisor lives.
func (s *Store) read(id string) (Status, error) {
	folder := s.paths.Folder(id)
	// Asked first: a supervisor that ends in order writes its last status before it lets go of the lock.
	live := alive(folder)
	var st Status
	if err := readJSON(filepath.Join(folder, "session.json"), &st.Session); err != nil {
		return st, err
	}
	st.State = Starting
	want := st.Session
	if err := readJSON(filepath.Join(folder, "status.json"), &st); err != nil && !errors.Is(err, os.ErrNotExist) {
		return st, err
	}
	if want.Backend == "" {
		want.Backend = st.Backend // nobody asked for one; this is the one that was chosen
	}
	st.Session = want
	if live {
		return st, nil
	}
	st.PID = 0
	if st.State != Stopped && st.State != Failed && st.State != Suspended {
		st.State = Stopped
		st.Error = "its supervisor is gone: it was killed, or this computer was restarted"
		st.Hint = "capsid rm " + st.Name
	}
	return st, nil
}

// Find returns the session that is meant by an ID, a name, or a prefix of either that fits one session alone.
func (s *Store) Find(key string) (Status, error) {
	list, err := s.List()
	if err != nil {
		return Status{}, err
	}
	var prefixed []Status
	for _, st := range list {
		if st.ID == key || st.Name == key {
			return st, nil
		}
		if key != "" && (strings.HasPrefix(st.ID, key) || strings.HasPrefix(st.Name, key)) {
			prefixed = append(prefixed, st)
		}
	}
	switch len(prefixed) {
	case 0:
		return Status{}, &Error{Message: fmt.Sprintf("no session %q", key), Hint: "capsid ps lists them", Kind: ErrUnknown}
	case 1:
		return prefixed[0], nil
	}
	var names []string
	for _, st := range prefixed {
		names = append(names, st.ID+" ("+st.Name+")")
	}
	return Status{}, &Error{Message: fmt.Sprintf("%q could be any of %s", key, strings.Join(names, ", ")), Hint: "write more of it", Kind: ErrAmbiguous}
}

// create makes the folder of a new session and locks it. sess.ID, Name and Created are filled in. A name that is not given is the
// agent's with the first free number.
func (s *Store) create(sess *Session) (lock *os.File, err error) {
	mutex, err := os.OpenFile(filepath.Join(s.paths.Sessions(), ".lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	defer mutex.Close()
	if err := flock(mutex, unix.LOCK_EX); err != nil {
		return nil, err
	}
	s.sweep()
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	if sess.Name, err = freeName(list, *sess); err != nil {
		return nil, err
	}
	var raw [4]byte
	for {
		rand.Read(raw[:])
		sess.ID = hex.EncodeToString(raw[:])
		if _, err := os.Lstat(s.paths.Folder(sess.ID)); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	sess.Created = time.Now().UTC().Truncate(time.Millisecond)
	half := filepath.Join(s.paths.Sessions(), ".new-"+sess.ID)
	defer func() {
		if err != nil {
			os.RemoveAll(half)
		}
	}()
	if err := os.Mkdir(half, 0o700); err != nil {
		return nil, err
	}
	if lock, err = tryLock(filepath.Join(half, lockName)); err != nil {
		return nil, err
	}
	if err = WriteJSON(filepath.Join(half, "session.json"), sess); err == nil {
		err = os.Rename(half, s.paths.Folder(sess.ID))
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// sweep deletes what a killed program left half made or half removed. The caller holds the mutex, so nobody is making one now; and two may well remove the same.
func (s *Store) sweep() {
	for _, pattern := range []string{".new-*", ".old-*"} {
		// The pattern is well formed, so there is no error.
		left, _ := filepath.Glob(filepath.Join(s.paths.Sessions(), pattern))
		for _, dir := range left {
			os.RemoveAll(dir)
		}
	}
}

func freeName(list []Status, sess Session) (string, error) {
	taken := map[string]bool{}
	for _, st := range list {
		taken[st.Name] = true
	}
	if sess.Name == "" {
		prefix := sess.Agent
		for _, st := range list {
			if sess.Parent != nil && st.ID == sess.Parent.Session {
				prefix = st.Name[:min(len(st.Name), maxName-len("-fork-999"))] + "-fork"
			}
		}
		for n := 1; ; n++ {
			if name := fmt.Sprintf("%s-%d", prefix, n); !taken[name] {
				return name, nil
			}
		}
	}
	if !namePattern.MatchString(sess.Name) {
		return "", &Error{Message: fmt.Sprintf("%q cannot name a session", sess.Name), Hint: "use at most 41 lower-case letters, digits and dashes, a letter or digit first"}
	}
	if taken[sess.Name] {
		return "", &Error{Message: fmt.Sprintf("there is a session %q already", sess.Name), Hint: "choose another --name, or remove it with capsid rm " + sess.Name}
	}
	return sess.Name, nil
}

// maxJSON bounds the files of a session's folder that are read whole.
const maxJSON = 16 << 20

func readJSON(path string, v any) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if fi.Size() > maxJSON {
		return fmt.Errorf("%s is too large", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// WriteJSON replaces path so that a reader, or a crash, finds the old value or the new one.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replace(path, append(data, '\n'))
}

func replace(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}
