package ui

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/vmm/disk"
)

// TestLocalSnapshots keeps the disks of sessions that have ended, which needs no machine, and removes them again.
func TestLocalSnapshots(t *testing.T) {
	dir := t.TempDir()
	store, err := session.OpenStore(session.Paths{State: filepath.Join(dir, "state"), Runtime: filepath.Join(dir, "run"), Data: filepath.Join(dir, "data"),
		Config: filepath.Join(dir, "config"), Corp: filepath.Join(dir, "corp.toml")})
	if err != nil {
		t.Fatal(err)
	}
	l, ctx := &Local{Store: store}, context.Background()
	add := func(id, name string, parent *session.SnapshotRef) {
		t.Helper()
		folder := store.Paths().Folder(id)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		layer, err := snapshot.NewDisk(folder)
		if err == nil {
			err = disk.Create(layer, 1<<20)
		}
		if err == nil {
			err = session.WriteJSON(filepath.Join(folder, "session.json"), session.Session{ID: id, Name: name, Agent: "shell", Workspace: "/tmp", Access: session.ReadWrite,
				CPUs: 1, Memory: 1 << 30, Backend: "soft", Image: strings.Repeat("ab", 32), Created: time.Unix(1e9, 0), Parent: parent})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("0000000a", "shell-1", nil)
	first := ref("0000000a", "first")
	if done, err := l.Snapshot(ctx, "0000000a", session.SnapshotRequest{Name: "first", Note: "a note"}); err != nil || done.Name != "first" || done.Bytes == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	add("0000000b", "shell-1-fork-1", &first)
	if _, err := l.Snapshot(ctx, "0000000b", session.SnapshotRequest{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	second := ref("0000000b", "second")

	f, err := l.Family("0000000b")
	if err != nil || f.Root == nil || f.Root.Name() != "shell-1" {
		t.Fatalf("%+v, %v", f.Root, err)
	}
	if n := f.Find(ref("0000000b", "")); n == nil || !n.Here {
		t.Errorf("the fork is %+v", n)
	}
	if n := f.Find(first); n == nil || n.Snapshot.Manifest.Kind != snapshot.Disk || n.Snapshot.Manifest.Note != "a note" || f.Freed[first] == 0 {
		t.Errorf("the snapshot is %+v, %d bytes", n, f.Freed[first])
	}
	err = l.RemoveSnapshots([]session.SnapshotRef{first})
	if !errors.Is(err, snapshot.ErrChildren) {
		t.Fatalf("what has children was removed: %v", err)
	}
	// A session goes with its own snapshots, so that those need not be named.
	below := f.Below[first]
	if len(below) != 1 || below[0] != ref("0000000b", "") {
		t.Errorf("below it are %v", below)
	}
	if err := l.RemoveSnapshots(append(below, first)); err != nil {
		t.Fatal(err)
	}
	list, err := store.List()
	if err != nil || len(list) != 1 {
		t.Errorf("left are %v, %v", list, err)
	}
	if f, err = l.Family("0000000a"); err != nil || len(f.Root.Children) != 0 {
		t.Errorf("left are %+v, %v", f.Root.Children, err)
	}
	if _, err := l.Restore(ctx, second, nil); !errors.Is(err, snapshot.ErrUnknown) {
		t.Errorf("what is gone was restored: %v", err)
	}
	if _, err := l.Fork(ctx, first, 1, nil); !errors.Is(err, snapshot.ErrUnknown) {
		t.Errorf("what is gone was forked: %v", err)
	}
}
