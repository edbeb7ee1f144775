package vmmtest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"capsid/vmm"
)

// What a program of the guest has begun.
const (
	lastingFile   = "/lasting"
	lastingSocket = "/lasting.sock"
	lastingText   = "read before; and read after"
	lastingRead   = len("read before; ")
	halfLine      = "half a line, "
	otherHalf     = "and the other half"
	unflushedAt   = 1 << 20
	unflushed     = "written and not flushed"
)

// lastingWant is what a program finds when it goes on.
const lastingWant = "and read after|half a line, and the other half|hello"

// snapshotsOfPrograms: what a program holds, in memory, in the kernel and on disk, is in each machine that comes of a snapshot, and belongs to it alone.
func snapshotsOfPrograms(t *testing.T, b vmm.Backend, o Options) {
	cfg := config(t, o)
	disks := cfg.Dir
	top := func(name string) string {
		t.Helper()
		return makeDisk(t, disks, name, "")
	}
	root := vmm.Disk{Path: makeDisk(t, disks, "root", "read only"), ReadOnly: true}
	frozen := []string{top("base"), top("frozen")}
	cfg.Disks = []vmm.Disk{root, {Layers: frozen}}
	m := boot(t, b, cfg)
	m.ask(t, request{Op: "write", Disk: "vdb", Text: "before"})
	m.ask(t, request{Op: "begin", Disk: "vdb"})
	ticks := func(m *machine) int {
		t.Helper()
		return m.ask(t, request{Op: "ticks"}).Count
	}
	atLeast := ticks(m)
	dir := t.TempDir()
	if err := m.Machine.(vmm.Snapshotter).Snapshot(within(t, callTime), vmm.SnapshotConfig{Dir: dir, Tops: []string{top("parent")}, Stay: true}); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, frozen[1])
	if !bytes.HasPrefix(before, []byte("before")) {
		t.Errorf("the frozen layer begins %.20q", before)
	}
	if err := m.Resume(within(t, callTime)); err != nil {
		t.Fatal(err)
	}
	random := map[string]bool{}
	goesOn := func(name string, m *machine) {
		t.Helper()
		was := ticks(m)
		if was < atLeast {
			t.Errorf("%s has counted to %d, less than %d before the snapshot", name, was, atLeast)
		}
		for deadline := time.Now().Add(callTime); ticks(m) == was; {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not count on", name)
			}
		}
		if a := m.ask(t, request{Op: "go on"}); a.Text != lastingWant {
			t.Errorf("%s found %q", name, a.Text)
		}
		read := func(off int) string {
			return strings.TrimRight(m.ask(t, request{Op: "read direct", Disk: "vdb", Count: off}).Text, "\x00")
		}
		// No other machine's writes are there, and those that were on their way are.
		if start, far := read(0), read(unflushedAt); start != "before" || far != unflushed {
			t.Errorf("%s: the disk holds %q and %q", name, start, far)
		}
		m.ask(t, request{Op: "write", Disk: "vdb", Text: name})
		if got := readFile(t, filepath.Join(disks, name)); !bytes.HasPrefix(got, []byte(name)) {
			t.Errorf("the top of %s begins %.20q", name, got)
		}
		random[m.ask(t, request{Op: "random"}).Text] = true
	}
	goesOn("parent", m)
	m.Close()
	for i := range 2 {
		name := fmt.Sprintf("child%d", i)
		cfg := cfg
		cfg.Disks = []vmm.Disk{root, {Layers: append(slices.Clone(frozen), top(name))}}
		cfg.Dir = t.TempDir()
		r, err := b.(vmm.Restorer).Restore(within(t, callTime), cfg, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		if err := r.Resume(within(t, callTime)); err != nil {
			t.Fatal(err)
		}
		child := &machine{r, cfg}
		child.ask(t, request{Op: "reseed", Text: hex.EncodeToString(bytes.Repeat([]byte{byte(i)}, 32))})
		goesOn(name, child)
		child.Close()
	}
	if len(random) != 3 {
		t.Errorf("a machine and two that were restored gave %d different random numbers", len(random))
	}
	if !bytes.Equal(readFile(t, frozen[1]), before) {
		t.Error("the frozen layer was written")
	}
	otherVersion(t, b, cfg, dir)
}

// otherVersion: what another version of the backend wrote is refused.
func otherVersion(t *testing.T, b vmm.Backend, cfg vmm.Config, dir string) {
	var found bool
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		head := make([]byte, 1)
		if file, err := os.Open(path); err == nil {
			file.Read(head)
			file.Close()
		}
		if head[0] != '{' {
			continue
		}
		raw := readFile(t, path)
		other := regexp.MustCompile(`(?i)("version": ?)[0-9]+`).ReplaceAll(raw, []byte("${1}9999"))
		if bytes.Equal(raw, other) || !json.Valid(other) {
			continue
		}
		found = true
		if err := os.WriteFile(path, other, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatal("no file of the snapshot names its version")
	}
	cfg.Dir = t.TempDir()
	r, err := b.(vmm.Restorer).Restore(within(t, callTime), cfg, dir)
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, vmm.ErrSnapshot) || !strings.Contains(err.Error(), "9999") {
		t.Errorf("err: %v", err)
	}
}
