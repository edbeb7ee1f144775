package session

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testStore(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := OpenStore(Paths{
		State: filepath.Join(dir, "state/capsid"), Runtime: filepath.Join(dir, "run/capsid"), Data: filepath.Join(dir, "data/capsid"),
		Config: filepath.Join(dir, "config/capsid"), Corp: filepath.Join(dir, "corp.toml"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// add makes a session; it looks alive until the lock is closed.
func add(t *testing.T, s *Store, name string) (Session, *os.File) {
	t.Helper()
	sess := Session{Agent: "claude", Name: name}
	lock, err := s.create(&sess)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	return sess, lock
}

func TestNamesAreUnique(t *testing.T) {
	s := testStore(t)
	a, _ := add(t, s, "")
	b, _ := add(t, s, "")
	if a.Name != "claude-1" || b.Name != "claude-2" {
		t.Fatalf("names are %q and %q", a.Name, b.Name)
	}
	for _, name := range []string{"claude-1", "Claude", "-x", "a b", strings.Repeat("a", 42), "../x", ""} {
		sess := Session{Agent: "claude", Name: name}
		lock, err := s.create(&sess)
		if name == "" {
			lock.Close()
			continue
		}
		if err == nil {
			t.Errorf("%q was accepted", name)
		} else if Hint(err) == "" {
			t.Errorf("%q: no hint in %v", name, err)
		}
	}
	entries, err := os.ReadDir(s.paths.Sessions())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestHalfMadeIsSwept(t *testing.T) {
	s := testStore(t)
	for _, name := range []string{".new-0123abcd", ".old-0123abcd"} {
		if err := os.MkdirAll(filepath.Join(s.paths.Sessions(), name, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Fatalf("half of a session is listed: %v, %v", list, err)
	}
	add(t, s, "")
	entries, err := os.ReadDir(s.paths.Sessions())
	if err != nil || len(entries) != 2 { // the session and the mutex
		t.Fatalf("%v, %v", entries, err)
	}
}

func TestListTellsTheTruth(t *testing.T) {
	s := testStore(t)
	sess, lock := add(t, s, "")
	status := Status{Session: sess, State: Running, PID: 4242, Backing: "soft"}
	if err := WriteJSON(filepath.Join(s.paths.Folder(sess.ID), "status.json"), status); err != nil {
		t.Fatal(err)
	}
	got, err := s.Find(sess.ID)
	if err != nil || got.State != Running || got.PID != 4242 {
		t.Fatalf("with its supervisor: %+v, %v", got, err)
	}
	lock.Close() // as the kernel does when the supervisor is killed
	got, err = s.Find(sess.ID)
	if err != nil || got.State != Stopped || got.PID != 0 || got.Error == "" || got.Hint == "" {
		t.Fatalf("without its supervisor: %+v, %v", got, err)
	}
	status.State, status.Error = Failed, "the machine crashed"
	if err := WriteJSON(filepath.Join(s.paths.Folder(sess.ID), "status.json"), status); err != nil {
		t.Fatal(err)
	}
	if got, _ = s.Find(sess.ID); got.State != Failed || got.Error != "the machine crashed" {
		t.Fatalf("a failure's reason was lost: %+v", got)
	}
}

func TestDamagedFolderIsListed(t *testing.T) {
	s := testStore(t)
	sess, lock := add(t, s, "")
	lock.Close()
	if err := os.WriteFile(filepath.Join(s.paths.Folder(sess.ID), "session.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].State != Failed || list[0].ID != sess.ID {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := s.Remove(sess.ID, false); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	s := testStore(t)
	a, _ := add(t, s, "alpha-one")
	add(t, s, "alpha-two")
	add(t, s, "alpha")
	for key, want := range map[string]error{"nothing": ErrUnknown, "": ErrUnknown, "alpha-": ErrAmbiguous, "alp": ErrAmbiguous, "alpha-o": nil, "alpha": nil, a.ID: nil} {
		got, err := s.Find(key)
		if !errors.Is(err, want) {
			t.Errorf("Find(%q): %v, want %v", key, err, want)
		}
		if err != nil && Hint(err) == "" {
			t.Errorf("Find(%q): no hint in %v", key, err)
		}
		if key == "alpha" && got.Name != "alpha" {
			t.Errorf("a whole name lost to a prefix: %q", got.Name)
		}
	}
}

func TestRemove(t *testing.T) {
	s := testStore(t)
	sess, lock := add(t, s, "")
	if err := s.Remove(sess.ID, false); !errors.Is(err, ErrAlive) {
		t.Fatalf("a living session: %v", err)
	}
	if err := s.Remove("../../etc", true); !errors.Is(err, ErrUnknown) {
		t.Fatalf("a path: %v", err)
	}
	lock.Close()
	if err := os.WriteFile(s.paths.Socket(sess.ID), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(sess.ID, false); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.paths.Folder(sess.ID), s.paths.Socket(sess.ID)} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if err := s.Remove(sess.ID, false); !errors.Is(err, ErrUnknown) {
		t.Fatalf("again: %v", err)
	}
}

func TestForeignRuntimeFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(run, 0o777); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	p := Paths{State: filepath.Join(dir, "s"), Runtime: run, Data: filepath.Join(dir, "d"), Config: filepath.Join(dir, "c")}
	if _, err := OpenStore(p); err == nil {
		t.Fatal("a folder that others may write to was accepted")
	}
	p.Runtime = filepath.Join(dir, "link")
	if err := os.Symlink(t.TempDir(), p.Runtime); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(p); err == nil {
		t.Fatal("a symbolic link was accepted")
	}
}

func TestWatch(t *testing.T) {
	s := testStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	changes, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := func(what string) {
		t.Helper()
		select {
		case _, ok := <-changes:
			if !ok {
				t.Fatalf("%s: the channel was closed", what)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing came", what)
		}
	}
	sess, lock := add(t, s, "")
	next("a new session")
	if err := WriteJSON(filepath.Join(s.paths.Folder(sess.ID), "status.json"), Status{Session: sess, State: Running}); err != nil {
		t.Fatal(err)
	}
	next("its status")
	for drained := false; !drained; { // several changes may have come as several
		select {
		case <-changes:
		case <-time.After(time.Second):
			drained = true
		}
	}
	lock.Close()
	next("its supervisor's death")
	cancel()
	for range changes {
	}
}

func TestWorkspace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, wide, err := checkWorkspace(link); err != nil || wide || got != real {
		t.Errorf("a link: %q, %v, %v", got, wide, err)
	}
	for path, word := range map[string]string{filepath.Join(dir, "none"): "does not exist", file: "is a file"} {
		if _, _, err := checkWorkspace(path); err == nil || !strings.Contains(err.Error(), word) || Hint(err) == "" {
			t.Errorf("%s: %v (%s)", path, err, Hint(err))
		}
	}
	t.Setenv("HOME", filepath.Join(dir, "home"))
	if err := os.Mkdir(filepath.Join(dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", filepath.Join(dir, "home"), dir} {
		if _, wide, err := checkWorkspace(path); err != nil || !wide {
			t.Errorf("%s: wide is %v, %v", path, wide, err)
		}
	}
}

func TestOwnFoldersAreNoWorkspace(t *testing.T) {
	s := testStore(t)
	t.Setenv("HOME", "/nonexistent")
	for _, dir := range []string{s.paths.Config, s.paths.Sessions(), filepath.Dir(s.paths.Config)} {
		access := ReadWrite
		if _, err := s.workspace(StartOptions{Workspace: dir}, &access); err == nil {
			t.Errorf("%s was accepted", dir)
		}
	}
}

func TestPolicyFileOutsideTheWorkspace(t *testing.T) {
	work := t.TempDir()
	inside := filepath.Join(work, "p.toml")
	if err := os.WriteFile(inside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A link from outside does not make it safe.
	outside := filepath.Join(t.TempDir(), "p.toml")
	if err := os.Symlink(inside, outside); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(work)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{inside, outside} {
		if _, err := policyFile(path, Session{Workspace: real, Access: ReadWrite}); err == nil {
			t.Errorf("%s was accepted", path)
		}
		if _, err := policyFile(path, Session{Workspace: real, Access: ReadOnly}); err != nil {
			t.Errorf("%s, read-only: %v", path, err)
		}
	}
}

func TestSupervisorEnvironment(t *testing.T) {
	t.Setenv("ANTHROPIC_API_KEY", "secret")
	t.Setenv("PATH", "/usr/bin")
	dir := t.TempDir()
	env := supervisorEnv(Paths{State: dir + "/s/capsid", Data: dir + "/d/capsid", Config: dir + "/c/capsid", Runtime: "/tmp/capsid-0"})
	text := strings.Join(env, "\n")
	if strings.Contains(text, "secret") || !strings.Contains(text, "PATH=/usr/bin") || !strings.Contains(text, "XDG_STATE_HOME="+dir+"/s\n") && !strings.HasSuffix(text, "XDG_STATE_HOME="+dir+"/s") {
		t.Fatal(text)
	}
	if strings.Contains(text, "XDG_RUNTIME_DIR") {
		t.Fatal("a runtime folder in /tmp is found by its own rule")
	}
}
