package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/app/session"
	"capsid/app/snapshot"
)

// killAtWork kills the supervisor of the session while it takes a snapshot, at each stage of that. The session has then ended, with all its processes, there is no half
// snapshot, and the older ones are good.
func killAtWork(t *testing.T, p *steady) {
	folder := snapshot.Folder(p.h.paths.Folder(p.ID))
	for _, stage := range []string{"freeze", "write memory", "check"} {
		t.Run(stage, func(t *testing.T) {
			h := p.h.in(t)
			p := p.in(h)
			n := p.count()
			before := names(t, folder)
			processes := family(t, p.PID)
			if len(processes) < 2 {
				t.Fatalf("the session has %d processes", len(processes))
			}

			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client := h.store.Client(p.ID)
			events, err := client.Events(ctx)
			if err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() {
				_, err := client.Snapshot(ctx, session.SnapshotRequest{Name: "half"})
				answer <- err
			}()
			killed := false
			for e := range events {
				if !killed && e.Status != nil && e.Status.Work != nil && e.Status.Work.Stage == stage {
					if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
						t.Fatal(err)
					}
					killed = true
				}
			}
			if !killed {
				t.Fatalf("no such stage: %v", <-answer)
			}
			if err := <-answer; err == nil {
				t.Fatal("the snapshot was there before the supervisor was gone")
			}
			for pid, fd := range processes {
				if err := gone(ctx, fd); err != nil {
					t.Errorf("process %d of the session (%s) lives on: %v", pid, command(pid), err)
				}
			}
			if st, err := h.store.Find(p.ID); err != nil || st.State != session.Stopped && st.State != session.Failed {
				t.Errorf("the session is %s, %v", st.State, err)
			}
			if after := names(t, folder); after != before {
				t.Errorf("the snapshots were %s, and are %s", before, after)
			}
			h.must("restore", "parent", "first", "--detach")
			p = p.in(h)
			p.goesOn(n)
			p.counted("parent")
		})
	}
	p.h.must("snapshot", "parent", "half")
}

// names are the snapshots in a folder, each of which must be good, and nothing else must be there.
func names(t *testing.T, folder string) string {
	t.Helper()
	list, err := snapshot.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range list {
		if s.Broken != nil {
			t.Errorf("snapshot %s: %v", s.Name, s.Broken)
		}
		out = append(out, s.Name)
	}
	if drafts, err := filepath.Glob(filepath.Join(folder, ".new-*")); len(drafts) > 0 || err != nil {
		t.Errorf("there are halves: %v, %v", drafts, err)
	}
	return strings.Join(out, " ")
}

// family returns a process and its descendants, each as a descriptor that is ready to be read when it has ended.
func family(t testing.TB, pid int) map[int]int {
	t.Helper()
	fds := map[int]int{}
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name in parentheses may have anything in it; see proc_pid_stat(5).
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		child, err1 := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, err2 := strconv.Atoi(fields[1])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		children[parent] = append(children[parent], child)
	}
	for todo := []int{pid}; len(todo) > 0; todo = append(todo[1:], children[todo[0]]...) {
		fd, err := unix.PidfdOpen(todo[0], 0)
		if err != nil {
			t.Fatalf("process %d: %v", todo[0], err)
		}
		fds[todo[0]] = fd
	}
	return fds
}

// gone waits until the process of a descriptor of family has ended.
func gone(ctx context.Context, fd int) error {
	const again = 1000 // ms after which it is seen whether ctx has ended
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, again)
		if n == 1 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return ctx.Err()
}

func command(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(text), "\x00", " ")
}
