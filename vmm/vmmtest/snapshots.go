package vmmtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"capsid/vmm"
)

// Snapshots tests a backend that takes them: a machine goes on after one, and comes back from it as it was, more than once.
func Snapshots(t *testing.T, b vmm.Backend, o Options) {
	if !b.Capabilities().Snapshot {
		t.Fatalf("backend %s takes no snapshots", b.Name())
	}
	before := snapshot(t)
	t.Run("cases", func(t *testing.T) {
		o := o.resolve(t)
		t.Run("memory", func(t *testing.T) { snapshots(t, b, o) })
		t.Run("programs", func(t *testing.T) { snapshotsOfPrograms(t, b, o) })
		t.Run("disks", func(t *testing.T) { snapshotsOfDisks(t, b, o) })
	})
	before.same(t)
}

func snapshots(t *testing.T, b vmm.Backend, o Options) {
	cfg := config(t, o)
	m := boot(t, b, cfg)
	count := func(m *machine, want int) {
		t.Helper()
		if got := m.ask(t, request{Op: "count"}).Count; got != want {
			t.Errorf("the guest has counted to %d, not %d", got, want)
		}
	}
	take := func(m *machine) string {
		t.Helper()
		dir := t.TempDir()
		frozen := 0
		if err := m.Machine.(vmm.Snapshotter).Snapshot(within(t, callTime), vmm.SnapshotConfig{Dir: dir, Frozen: func() { frozen++ }}); err != nil {
			t.Fatal(err)
		}
		if frozen != 1 {
			t.Errorf("was told %d times that it is frozen", frozen)
		}
		return dir
	}
	count(m, 1)
	m.ask(t, request{Op: "use memory", Count: 64 << 20}) // what is free again may be anything in the snapshot
	// A stream of the machine that goes on is not disturbed.
	ticks := m.dial(t, tickPort)
	first := take(m)
	if _, err := ticks.Read(make([]byte, 1)); err != nil {
		t.Errorf("a stream, after the snapshot: %v", err)
	}
	count(m, 2)
	second := take(m)
	count(m, 3)
	m.upload(t, 10_000_000)
	m.Close()

	restore := func(dir string) *machine {
		t.Helper()
		cfg := cfg
		cfg.Dir = t.TempDir()
		r, err := b.(vmm.Restorer).Restore(within(t, callTime), cfg, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		if err := r.Resume(within(t, callTime)); err != nil {
			t.Fatal(err)
		}
		return &machine{r, cfg}
	}
	random := map[string]bool{}
	for _, from := range []struct {
		dir     string
		counted int
	}{{first, 1}, {second, 2}, {first, 1}} {
		r := restore(from.dir)
		// What each gives out next is its own, though all were the same machine.
		random[r.ask(t, request{Op: "random"}).Text] = true
		count(r, from.counted+1)
		if a := r.ask(t, request{Op: "about"}); a.CPUs != testCPUs {
			t.Errorf("%d processors", a.CPUs)
		}
		r.upload(t, 10_000_000)
		r.download(t, 10_000_000)
		// A machine that was restored can be kept again.
		again := take(r)
		r.Close()
		r = restore(again)
		count(r, from.counted+2)
		r.Close()
	}
	if len(random) != 3 {
		t.Errorf("three restored machines gave %d different random numbers", len(random))
	}
	damaged(t, b, cfg, first)
}

// damaged: files that are no snapshot are refused, whatever is wrong with them.
func damaged(t *testing.T, b vmm.Backend, cfg vmm.Config, good string) {
	files, err := os.ReadDir(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for name, spoil := range map[string]func(path string) error{
			"is missing":   os.Remove,
			"is empty":     func(path string) error { return os.Truncate(path, 0) },
			"is cut short": func(path string) error { return cut(path) },
		} {
			t.Run(f.Name()+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				for _, f := range files {
					// The memory is large and sparse; a link will do, but for the one that is spoilt.
					if err := os.Link(filepath.Join(good, f.Name()), filepath.Join(dir, f.Name())); err != nil {
						t.Fatal(err)
					}
				}
				path := filepath.Join(dir, f.Name())
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600), os.Truncate(path, info.Size()), spoil(path)); err != nil {
					t.Fatal(err)
				}
				cfg := cfg
				cfg.Dir = t.TempDir()
				r, err := b.(vmm.Restorer).Restore(within(t, callTime), cfg, dir)
				if err == nil {
					r.Close()
				}
				if !errors.Is(err, vmm.ErrSnapshot) {
					t.Errorf("err: %v", err)
				}
			})
		}
	}
	t.Run("another size", func(t *testing.T) {
		cfg := cfg
		cfg.Dir, cfg.CPUs = t.TempDir(), testCPUs+1
		r, err := b.(vmm.Restorer).Restore(within(t, callTime), cfg, good)
		if err == nil {
			r.Close()
		}
		if !errors.Is(err, vmm.ErrSnapshot) {
			t.Errorf("err: %v", err)
		}
	})
}

// cut takes half a page off a file's end.
func cut(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()-min(info.Size(), 2048))
}
