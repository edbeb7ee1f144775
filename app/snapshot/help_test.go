package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/guest/control"
)

const testID = "0123abcd"

var testTime = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func testManifest() Manifest {
	return Manifest{
		Created: testTime,
		Session: session.Session{ID: testID, Name: "claude-1", Agent: "claude", Workspace: "/home/a/b", Access: session.ReadWrite, CPUs: 2, Memory: 1 << 30, Created: testTime},
		Backend: "kvm", Capsid: "0.1.0", Image: strings.Repeat("ab", 32), Kind: Memory,
		Disks: [][]string{{"disk.0", "disk.1"}}, User: control.User{Name: "a", UID: 1000, GID: 1000, Home: "/home/a"},
		Note: "before <the> change & so on \u2013 é",
	}
}

// snapshotsFolder is that of a session in a new store.
func snapshotsFolder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sessions", testID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return Folder(dir)
}

// sparse writes a file of a size that is a hole but for the pages given by number; a page's bytes are all the value.
func sparseFile(t testing.TB, path string, size int64, pages map[int64]byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for n, v := range pages {
		page := make([]byte, pageSize)
		for i := range page {
			page[i] = v
		}
		if _, err := f.WriteAt(page[:min(pageSize, size-n*pageSize)], n*pageSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

const (
	ramSize  = 64 << 20
	diskSize = 1 << 30
)

// fill puts what testManifest speaks of into a draft.
func fill(t testing.TB, dir string) {
	t.Helper()
	sparseFile(t, filepath.Join(dir, "ram.base"), ramSize, map[int64]byte{0: 1, 5: 0, 1000: 2, ramSize/pageSize - 1: 3})
	sparseFile(t, filepath.Join(dir, "ram"), ramSize, map[int64]byte{1: 1, 5: 0})
	sparseFile(t, filepath.Join(dir, "disk.0"), diskSize, map[int64]byte{0: 9, 7: 8})
	sparseFile(t, filepath.Join(dir, "disk.1"), diskSize, map[int64]byte{7: 0, 9: 7})
	if err := os.WriteFile(filepath.Join(dir, "machine.json"), []byte(`{"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

// take makes a whole snapshot.
func take(t testing.TB, folder, name string, change func(*Manifest)) *Snapshot {
	t.Helper()
	d, err := New(folder, name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	fill(t, d.Dir())
	m := testManifest()
	if change != nil {
		change(&m)
	}
	s, err := d.Commit(context.Background(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rewrite changes a manifest as somebody does who knows its digest too.
func rewrite(t testing.TB, dir string, change func(snapshot map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, manifestFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var e envelope
	var m map[string]any
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(e.Snapshot, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	if err := os.WriteFile(path, seal(t, m), 0o600); err != nil {
		t.Fatal(err)
	}
}

// seal makes a manifest's file of anything.
func seal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	data, err := json.Marshal(envelope{Version, hex.EncodeToString(sum[:]), raw})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// oneLine sees that an error is one line that names the file and comes with a next step.
func oneLine(t *testing.T, err error, file string) {
	t.Helper()
	if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), file) || session.Hint(err) == "" {
		t.Errorf("%q (hint %q): want one line that names %q, and a hint", err, session.Hint(err), file)
	}
}
