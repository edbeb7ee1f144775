package vmmtest

import (
	"path/filepath"
	"testing"

	"capsid/vmm"
	"capsid/vmm/disk"
)

// snapshotsOfDisks: a snapshot keeps what a disk was; the machine that goes on and those that come back each write to tops of their own.
func snapshotsOfDisks(t *testing.T, b vmm.Backend, o Options) {
	dir := t.TempDir()
	layer := func(name string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := disk.Create(path, diskSize); err != nil {
			t.Fatal(err)
		}
		return path
	}
	base := layer("base")
	with := func(layers ...string) vmm.Config {
		cfg := config(t, o)
		cfg.Disks = []vmm.Disk{{Path: makeDisk(t, cfg.Dir, "root", "read only"), ReadOnly: true}, {Layers: layers}}
		return cfg
	}
	write := func(m *machine, text string) { m.ask(t, request{Op: "write", Disk: "vdb", Text: text}) }
	reads := func(m *machine, want string) {
		t.Helper()
		if got := m.ask(t, request{Op: "read", Disk: "vdb", Count: len(want)}).Text; got != want {
			t.Errorf("the disk reads %q, not %q", got, want)
		}
	}
	take := func(m *machine, tops ...string) string {
		t.Helper()
		to := t.TempDir()
		if err := m.Machine.(vmm.Snapshotter).Snapshot(within(t, callTime), vmm.SnapshotConfig{Dir: to, Tops: tops}); err != nil {
			t.Fatal(err)
		}
		return to
	}
	restore := func(from string, layers ...string) *machine {
		t.Helper()
		cfg := with(layers...)
		r, err := b.(vmm.Restorer).Restore(within(t, callTime), cfg, from)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		if err := r.Resume(within(t, callTime)); err != nil {
			t.Fatal(err)
		}
		return &machine{r, cfg}
	}

	m := boot(t, b, with(base))
	write(m, "at first")
	// Tops that do not match the disks are refused, and the machine goes on.
	if err := m.Machine.(vmm.Snapshotter).Snapshot(within(t, callTime), vmm.SnapshotConfig{Dir: t.TempDir()}); err == nil {
		t.Error("a snapshot without a top for the disk")
	}
	reads(m, "at first")
	first := take(m, layer("parent"))
	write(m, "the parent's")
	second := take(m, layer("parent 2"))
	reads(m, "the parent's")
	// What is frozen is free for readers while the machine goes on.
	frozen, err := disk.OpenPaths([]string{base}, true)
	if err != nil {
		t.Fatal(err)
	}
	frozen.Close()
	write(m, "after both")
	m.Close()

	child := restore(first, base, layer("child"))
	reads(child, "at first")
	write(child, "the child's")
	grandchild := take(child, layer("child 2"))
	write(child, "at last")
	child.Close()
	other := restore(first, base, layer("other"))
	reads(other, "at first")
	other.Close()
	other = restore(grandchild, base, filepath.Join(dir, "child"), layer("grandchild"))
	reads(other, "the child's")
	other.Close()
	other = restore(second, base, filepath.Join(dir, "parent"), layer("second"))
	reads(other, "the parent's")
	other.Close()

	for want, layers := range map[string][]string{
		"at first":     {"base"},
		"the parent's": {"base", "parent"},
		"after both":   {"base", "parent", "parent 2"},
		"the child's":  {"base", "child"},
		"at last":      {"base", "child", "child 2"},
	} {
		var paths []string
		for _, name := range layers {
			paths = append(paths, filepath.Join(dir, name))
		}
		s, err := disk.OpenPaths(paths, true)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := s.ReadAt(got, 0); err != nil || string(got) != want {
			t.Errorf("%v: %q, %v; want %q", layers, got, err, want)
		}
		s.Close()
	}
}
