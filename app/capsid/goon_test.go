package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
)

// useShared starts the session that tests share.
func useShared(t *testing.T) *session.Store {
	t.Helper()
	needMachine(t)
	shared.once.Do(shared.start)
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	store, err := shared.store()
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// TestForkOnATerminal attaches to what goes on, where the screen is as it was.
func TestForkOnATerminal(t *testing.T) {
	store := useShared(t)
	s := openScreen(t, shared.vars, "attach", "shared")
	s.until(`leaves it running`)
	s.typed("echo kept-$((40+2))\r")
	s.until(`kept-42`)
	s.typed("\x1d")
	s.until(`Detached`)

	s = openScreen(t, shared.vars, "fork", "shared", "--name", "onscreen")
	t.Cleanup(func() {
		if st, err := store.Find("onscreen"); err == nil {
			store.Remove(st.ID, true)
		}
	})
	s.until(`snapshot fork-\d+: `)
	s.until(`Attached to onscreen; ctrl-\] leaves it running`)
	s.until(`kept-42`)
	s.typed("echo I am $(hostname)\r")
	s.until(`I am onscreen`)
	s.typed("\x1d")
	s.until(`Detached; onscreen goes on`)
	if code := s.status(); code != 0 {
		t.Errorf("fork: status %d", code)
	}

	s = openScreen(t, shared.vars, "snapshot", "onscreen", "here")
	s.until(`here: programs rested for`)
	if code := s.status(); code != 0 {
		t.Errorf("snapshot: status %d", code)
	}
	s = openScreen(t, shared.vars, "restore", "onscreen", "here", "--force")
	s.until(`Attached to onscreen`)
	s.until(`I am onscreen`)
	s.typed("\x1d")
	s.until(`Detached`)
	if code := s.status(); code != 0 {
		t.Errorf("restore: status %d", code)
	}
}

// TestInterrupted presses ctrl-C while a snapshot is taken and while a fork comes up: nothing of either is left, and the session goes on.
func TestInterrupted(t *testing.T) {
	store := useShared(t)
	for _, test := range []struct {
		name, word, says string
		args             []string
	}{
		{"snapshot, frozen", "freeze", "interrupted; the session is as it was", []string{"snapshot", "shared", "cut"}},
		{"snapshot, written", "write memory", "interrupted; the session is as it was", []string{"snapshot", "shared", "cut"}},
		{"fork, its snapshot", "write memory", "interrupted; the session is as it was", []string{"fork", "shared", "--name", "cut"}},
		{"fork, check", "check image", "interrupted; there is no fork", []string{"fork", "shared", "--name", "cut"}},
		{"fork, machine", "restore machine", "interrupted; there is no fork", []string{"fork", "shared", "--name", "cut"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := snapshotNames(t, store)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "capsid", test.args...)
			cmd.Env = os.Environ()
			for k, v := range shared.vars {
				cmd.Env = append(cmd.Env, k+"="+v)
			}
			said := &waiting{found: make(chan struct{}), word: test.word}
			cmd.Stderr = said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-said.found:
			case <-ctx.Done():
				t.Fatalf("it never got to %q: %s", test.word, said)
			}
			cmd.Process.Signal(os.Interrupt)
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(said.String(), test.says) {
				t.Errorf("status %d; it said %q", code, said)
			}
			// What comes next waits until the supervisor has taken back what was begun.
			client := store.Client(shared.st.ID)
			if err := client.Pause(ctx); err != nil {
				t.Fatal(err)
			}
			if err := client.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if after := snapshotNames(t, store); !slices.Equal(before, after) {
				t.Errorf("snapshots were %q and are %q", before, after)
			}
			if st, err := store.Find("cut"); err == nil {
				t.Errorf("a session is left: %+v", st)
			}
			if st, err := client.Status(ctx); err != nil || st.State != session.Running || st.Work != nil {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

// snapshotNames are all names in the shared session's folder of snapshots, half made ones too.
func snapshotNames(t *testing.T, store *session.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(snapshots(store, shared.st.ID))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestRestoreChecksFirst: a snapshot that is damaged costs a running session nothing, even when it is told to.
func TestRestoreChecksFirst(t *testing.T) {
	store := useShared(t)
	ctx := t.Context()
	if _, err := store.Client(shared.st.ID).Snapshot(ctx, session.SnapshotRequest{Name: "bitten"}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(snapshots(store, shared.st.ID), "bitten")
	defer snapshot.Remove(dir, nil)
	f, err := os.OpenFile(filepath.Join(dir, "around.json"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{' '}, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	cmd := exec.Command("capsid", "restore", "shared", "bitten", "--force")
	cmd.Env = os.Environ()
	for k, v := range shared.vars {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), `snapshot "bitten" is damaged: around.json: `) {
		t.Errorf("%v, %s", err, out)
	}
	if st, err := store.Client(shared.st.ID).Status(ctx); err != nil || st.State != session.Running {
		t.Errorf("%+v, %v", st, err)
	}
}
