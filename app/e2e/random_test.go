package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capsid/app/session"
	"capsid/app/snapshot"
)

// TestKilledAtRandom kills a supervisor, a machine or a share at any moment of a snapshot, a restore or a fork, as often as CAPSID_KILLS says. No snapshot that was acknowledged is
// lost, no process is left of what has ended, and what is listed as running does.
func TestKilledAtRandom(t *testing.T) {
	kills, err := strconv.Atoi(os.Getenv("CAPSID_KILLS"))
	if err != nil {
		t.Skip("CAPSID_KILLS says how often; each takes some seconds")
	}
	h := newHouse(t)
	k := &killing{h: h, id: h.start("victim", "shell", h.workspace("project"), "--memory", "512MiB").ID}
	k.folder = snapshot.Folder(h.paths.Folder(k.id))
	k.take(t.Context())
	if len(k.kept) == 0 {
		t.Fatal("the first snapshot was not taken")
	}
	done := map[string]int{}
	for i := range kills {
		k.awake(t)
		op := []string{"snapshot", "restore", "fork"}[rand.IntN(3)]
		what := []string{"supervise\x00", "qemu-system", "share-serve\x00"}[rand.IntN(3)]
		moment := time.Duration(rand.Int64N(int64(2500 * time.Millisecond)))
		over := make(chan struct{})
		go func() {
			defer close(over)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			k.do(ctx, op)
		}()
		select {
		case <-time.After(moment): // any moment will do
		case <-over: // so will the one after
		}
		if k.kill(t.Context(), what) {
			done[op+", "+strings.TrimRight(what, "\x00")]++
		}
		<-over
		k.check(t)
		if t.Failed() {
			t.Fatalf("kill %d: of %q during a %s, after %v", i+1, what, op, moment)
		}
	}
	t.Logf("killed: %v", done)
}

// killing is a session that is tried hard.
type killing struct {
	h      *house
	id     string
	folder string
	kept   []string // snapshots that were acknowledged
}

func (k *killing) do(ctx context.Context, op string) {
	options := snapshot.Options{Executable: program(k.h.t)}
	last, err := snapshot.Open(filepath.Join(k.folder, k.kept[len(k.kept)-1]))
	switch {
	case err != nil:
		k.h.t.Error(err)
	case op == "snapshot":
		k.take(ctx)
	case op == "restore":
		_ = k.h.store.Kill(ctx, k.id)
		_, _ = snapshot.Restore(ctx, k.h.store, k.id, last, options)
	case op == "fork":
		_, _ = snapshot.Fork(ctx, k.h.store, last, 1, "", options)
	}
}

func (k *killing) take(ctx context.Context) {
	if r, err := k.h.store.Client(k.id).Snapshot(ctx, session.SnapshotRequest{}); err == nil {
		k.kept = append(k.kept, r.Name)
	}
}

// processes are those of this house, by number: what they are told apart by is in the environment of supervisors, whose descendants the others are. One whose supervisor has
// gone is known by its machine's name, or by that nobody owns it.
func (k *killing) processes() map[int]string {
	found := map[int]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(text) == 0 || pid == os.Getpid() {
			continue
		}
		command := string(text)
		if strings.Contains(command, "\x00capsid victim") || strings.Contains(command, "share-serve\x00") && parentOf(pid) == 1 {
			found[pid] = command
			continue
		}
		for p := pid; p > 1; p = parentOf(p) {
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p))
			if strings.Contains(string(env), k.h.dir+"/") {
				found[pid] = command
				break
			}
		}
	}
	return found
}

func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// kill kills one process of a kind, if there is one just now, and waits until it is gone.
func (k *killing) kill(ctx context.Context, what string) bool {
	for pid, command := range k.processes() {
		if !strings.Contains(command, what) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil && gone(ctx, fd) == nil
	}
	return false
}

// awake makes the session run again, from the last snapshot that was acknowledged, if it does not or has lost its workspace.
func (k *killing) awake(t *testing.T) {
	t.Helper()
	for len(k.kept) > 4 {
		if err := snapshot.Remove(filepath.Join(k.folder, k.kept[0]), nil); err != nil {
			t.Fatal(err)
		}
		k.kept = k.kept[1:]
	}
	if _, _, status := k.h.capsid("run", "victim", "--", "true"); status == 0 {
		return
	}
	k.h.must("restore", "victim", k.kept[len(k.kept)-1], "--force", "--detach")
	k.h.must("run", "victim", "--", "true")
}

// check sees that nothing is lost, left over or listed wrongly. Forks are removed.
func (k *killing) check(t *testing.T) {
	t.Helper()
	list, err := k.h.store.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range list {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := k.h.store.Client(st.ID).Status(ctx)
		cancel()
		runs := st.State == session.Running || st.State == session.Paused || st.State == session.Starting
		if now, findErr := k.h.store.Find(st.ID); runs && err != nil && findErr == nil && now.State == st.State {
			t.Errorf("%s is listed as %s, and does not answer: %v", st.Name, st.State, err)
		}
		if st.ID != k.id {
			k.h.must("rm", "--force", st.Name)
		}
	}
	// What has ended takes a moment until it is gone: its supervisor's end is what ends it.
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		left := k.orphans()
		if left == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("left over: %s", left)
			break
		}
	}
	names(t, k.folder)
	for _, name := range k.kept {
		s, err := snapshot.Open(filepath.Join(k.folder, name))
		if err == nil {
			err = s.Verify(t.Context(), nil)
		}
		if err != nil {
			t.Errorf("a snapshot that was acknowledged: %v", err)
		}
	}
}

// orphans are machines and shares without a supervisor, and supervisors of sessions that do not run.
func (k *killing) orphans() string {
	all := k.processes()
	for pid, command := range all {
		switch {
		case strings.Contains(command, "qemu-system"), strings.Contains(command, "share-serve\x00"):
			if !strings.Contains(all[parentOf(pid)], "supervise\x00") {
				return command
			}
		case strings.Contains(command, "supervise\x00"):
			id := strings.TrimRight(command[strings.Index(command, "supervise\x00")+len("supervise\x00"):], "\x00")
			if st, err := k.h.store.Find(id); err != nil || st.State == session.Stopped || st.State == session.Failed {
				return command
			}
		}
	}
	return ""
}
