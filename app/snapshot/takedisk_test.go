package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capsid/app/session"
)

// ended makes a store with a session that has ended, whose disk has two layers.
func ended(t *testing.T) (*session.Store, session.Session) {
	t.Helper()
	dir := t.TempDir()
	store, err := session.OpenStore(session.Paths{
		State: filepath.Join(dir, "state"), Runtime: filepath.Join(dir, "run"), Data: filepath.Join(dir, "data"),
		Config: filepath.Join(dir, "config"), Corp: filepath.Join(dir, "corp.toml"),
	})
	if err != nil {
		t.Fatal(err)
	}
	sess := testManifest().Session
	sess.Backend, sess.Image, sess.Parent = "kvm", strings.Repeat("ab", 32), &Ref{Session: sess.ID, Snapshot: "first"}
	home := store.Paths().Folder(sess.ID)
	if err := os.MkdirAll(diskFolder(home), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := session.WriteJSON(filepath.Join(home, "session.json"), sess); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		sparseFile(t, layer(diskFolder(home), i), diskSize, map[int64]byte{int64(i): 7})
	}
	return store, sess
}

func TestTakeDisk(t *testing.T) {
	store, sess := ended(t)
	ctx := context.Background()
	home := store.Paths().Folder(sess.ID)
	var read int64
	s, err := TakeDisk(ctx, store, sess.ID, "", "as it ended", func(done, _ int64) { read = done })
	if err != nil {
		t.Fatal(err)
	}
	if m := s.Manifest; s.Name != "snap-1" || m.Kind != Disk || m.Note != "as it ended" || m.Parent == nil || *m.Parent != *sess.Parent || len(m.Disks) != 1 || len(m.Disks[0]) != 2 {
		t.Errorf("%s %+v", s.Name, m)
	}
	if read == 0 {
		t.Error("no progress")
	}
	if s, err = Find(Folder(home), "snap-1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
	// What goes on from it leaves it alone: the session's new top is another file.
	end, err := replaceDisk(ctx, home, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := end(true); err != nil {
		t.Fatal(err)
	}
	layers, err := Layers(home)
	if err != nil || len(layers) != 3 {
		t.Fatalf("%q, %v", layers, err)
	}
	if again, err := TakeDisk(ctx, store, sess.ID, "", "", nil); err != nil || again.Name != "snap-2" {
		t.Errorf("%v, %v", again, err)
	}
}

func TestTakeDiskRefuses(t *testing.T) {
	store, sess := ended(t)
	ctx := context.Background()
	home := store.Paths().Folder(sess.ID)
	if _, err := TakeDisk(ctx, store, "89abcdef", "", "", nil); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	release, err := store.Hold(sess.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TakeDisk(ctx, store, sess.ID, "", "", nil); !errors.Is(err, session.ErrAlive) {
		t.Errorf("held: %v", err)
	}
	release()
	if _, err := TakeDisk(ctx, store, sess.ID, "a/b", "", nil); !errors.Is(err, ErrName) {
		t.Errorf("a bad name: %v", err)
	}
	cut, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := TakeDisk(cut, store, sess.ID, "cut", "", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := os.RemoveAll(diskFolder(home)); err != nil {
		t.Fatal(err)
	}
	_, err = TakeDisk(ctx, store, sess.ID, "", "", nil)
	if err == nil || session.Hint(err) == "" {
		t.Errorf("without a disk: %v", err)
	}
	if list, err := List(Folder(home)); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestLookupFindsBroken(t *testing.T) {
	folder := snapshotsFolder(t)
	s := take(t, folder, "one", nil)
	if err := os.Remove(s.Path("ram")); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(folder, "one"); !errors.Is(err, ErrDamaged) {
		t.Errorf("find: %v", err)
	}
	if got, err := Lookup(folder, "o"); err != nil || got.Name != "one" || !errors.Is(got.Broken, ErrDamaged) {
		t.Errorf("lookup: %+v, %v", got, err)
	}
	if _, err := Lookup(folder, "two"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}
