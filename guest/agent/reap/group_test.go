//go:build linux

package reap

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testGroup is a cgroup of this host's.
func testGroup(t *testing.T) *Group {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		path := filepath.Join(root, "capsid-test-"+strconv.Itoa(os.Getpid()))
		g, err := NewGroup(path)
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() {
			g.dir.Close()
			// A process that has ended leaves the group a moment after it was reaped.
			for range 1000 {
				if os.Remove(path) == nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
			t.Error("the group cannot be removed")
		})
		return g
	}
	t.Skip("this host has no cgroup2")
	return nil
}

func TestFreeze(t *testing.T) {
	g := testGroup(t)
	r := New(false)
	r.Use(g)
	out := filepath.Join(t.TempDir(), "out")
	p := shell(t, r, "(while :; do echo x >>"+out+"; done) & wait")
	defer func() { p.SignalGroup(unix.SIGKILL); <-p.Done() }()
	size := func() int64 {
		st, err := os.Stat(out)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	grows := func() {
		t.Helper()
		was := size()
		for deadline := time.Now().Add(time.Minute); size() == was; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the program does not run")
			}
		}
	}
	grows()
	for range 2 {
		if err := g.Freeze(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	was := size()
	begun := make(chan *Process)
	go func() { begun <- shell(t, r, "exit 7") }()
	for range 100 {
		if now := size(); now != was {
			t.Fatalf("a frozen program wrote %d bytes", now-was)
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-begun:
		t.Error("a program was started in a frozen group")
	default:
	}
	for range 2 {
		if err := g.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	if code := await(t, <-begun); code != 7 {
		t.Errorf("the program that waited ended with %d", code)
	}
	grows()
}

// What cannot be frozen runs on.
func TestFreezeFails(t *testing.T) {
	dir := t.TempDir()
	g, err := NewGroup(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer g.dir.Close()
	if err := g.Freeze(time.Minute); err == nil {
		t.Error("there is no file cgroup.freeze")
	}
	for name, text := range map[string]string{"cgroup.freeze": "", "cgroup.events": "populated 1\nfrozen 0\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Freeze(10 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "come to rest") {
		t.Errorf("err: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "cgroup.freeze")); err != nil || string(b) != "0" || g.frozen {
		t.Errorf("%q, %v, frozen %v", b, err, g.frozen)
	}
}
