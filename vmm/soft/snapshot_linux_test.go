package soft

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capsid/vmm"
)

// running asks QEMU.
func (m *machine) running(t *testing.T) bool {
	t.Helper()
	s, err := m.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Running
}

// A snapshot leaves a machine as it was, whether it ran or rested, and whether it succeeded or not.
func TestSnapshotLeavesTheMachine(t *testing.T) {
	cfg := emptyConfig(emptyFiles(t))
	started, err := Backend{}.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer started.Close()
	m := started.(*machine)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, streamFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var last string
	for _, step := range []struct {
		name      string
		ctx       context.Context
		rests     bool
		cfg       vmm.SnapshotConfig
		fails     bool
		runsAfter bool
	}{
		{"runs", t.Context(), false, vmm.SnapshotConfig{}, false, true},
		{"cancelled", cancelled, false, vmm.SnapshotConfig{}, true, true},
		{"a folder that is not empty", t.Context(), false, vmm.SnapshotConfig{Dir: full}, true, true},
		{"a top for no disk", t.Context(), false, vmm.SnapshotConfig{Tops: []string{cfg.Kernel}}, true, true},
		{"rests", t.Context(), true, vmm.SnapshotConfig{}, false, false},
		{"rests since another", t.Context(), true, vmm.SnapshotConfig{}, false, false},
		{"runs again, and stays", t.Context(), false, vmm.SnapshotConfig{Stay: true}, false, false},
	} {
		if step.rests {
			err = m.Pause(t.Context())
		} else {
			err = m.Resume(t.Context())
		}
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if step.cfg.Dir == "" {
			step.cfg.Dir = t.TempDir()
		}
		if err := m.Snapshot(step.ctx, step.cfg); (err != nil) != step.fails {
			t.Errorf("%s: %v", step.name, err)
		} else if err == nil {
			last = step.cfg.Dir
		}
		if got := m.running(t); got != step.runsAfter {
			t.Errorf("%s: runs %v", step.name, got)
		}
	}
	m.Close()
	if err := m.Snapshot(t.Context(), vmm.SnapshotConfig{Dir: t.TempDir()}); err == nil {
		t.Error("a machine that has ended was saved")
	}
	restored, err := Backend{}.Restore(t.Context(), cfg, last)
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	if restored.(*machine).running(t) {
		t.Error("a restored machine does not rest")
	}
	if err := restored.Resume(t.Context()); err != nil || !restored.(*machine).running(t) {
		t.Errorf("resume: %v", err)
	}
}

// What was saved of another machine, by another program or in another format is refused before QEMU sees it.
func TestCompare(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := errors.Join(os.WriteFile(disk, make([]byte, 512), 0o600), os.WriteFile(filepath.Join(dir, streamFile), []byte("stream"), 0o600)); err != nil {
		t.Fatal(err)
	}
	cfg := vmm.Config{CPUs: 2, Memory: 128 << 20, Disks: []vmm.Disk{{Path: disk}}}
	stream, err := os.Open(filepath.Join(dir, streamFile))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for _, test := range []struct {
		want string // in the error
		edit func(*described)
	}{
		{"", func(*described) {}},
		{"format", func(d *described) { d.Format = "other" }},
		{"version 3", func(d *described) { d.Version = 3 }},
		{"processor", func(d *described) { d.Arch = "vax" }},
		{"QEMU 1.0", func(d *described) { d.QEMU = "QEMU 1.0" }},
		{"3 processors", func(d *described) { d.CPUs = 3 }},
		{"256 bytes", func(d *described) { d.Memory = 256 }},
		{"disks", func(d *described) { d.Disks[0].ReadOnly = true }},
		{"disks", func(d *described) { d.Disks = nil }},
		{"disks", func(d *described) { d.Disks[0].Size = 1024 }},
		{"6 bytes, not 7", func(d *described) { d.Stream = 7 }},
	} {
		d, err := describe(cfg, "QEMU 9.0")
		if err != nil {
			t.Fatal(err)
		}
		d.Stream = 6
		test.edit(&d)
		if err := writeDescribed(dir, d); err != nil {
			t.Fatal(err)
		}
		err = compare(cfg, "QEMU 9.0", dir, stream)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v", test.want, err)
		}
	}
	for _, text := range []string{"", "{", strings.Repeat(" ", maxDescribed+1)} {
		if err := os.WriteFile(filepath.Join(dir, machineFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := compare(cfg, "QEMU 9.0", dir, stream); err == nil {
			t.Errorf("%.5q is taken", text)
		}
	}
}
