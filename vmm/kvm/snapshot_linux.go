package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"capsid/vmm"
	"capsid/vmm/disk"
)

// The files of a snapshot. A machine's first one has all of its memory. Of later ones the memory is what differs from that of the first, which they hold too, by a
// hard link: so each folder is whole, and removing one takes nothing from another.
const (
	memoryFile = "ram"
	baseFile   = "ram.base"
	stateFile  = "machine.json"
)

// snapshotFiles are the paths that a machine is restored from.
type snapshotFiles struct {
	diff string // empty when there is none
}

// Snapshot is that of vmm.Snapshotter. The machine rests for the time that it takes to save processors and devices and, from the second time on, to copy
// what it has written since the first.
func (m *machine) Snapshot(ctx context.Context, s vmm.SnapshotConfig) error {
	if err := m.snapshot(ctx, s); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

func (m *machine) snapshot(ctx context.Context, s vmm.SnapshotConfig) error {
	var files []*os.File
	defer func() { closeAll(files) }()
	for _, name := range []string{memoryFile, stateFile} {
		f, err := os.OpenFile(filepath.Join(s.Dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	for _, top := range s.Tops {
		f, err := disk.OpenFiles([]string{top}, false)
		if err != nil {
			return err
		}
		files = append(files, f...)
	}
	r, err := m.do(ctx, message{Kind: save, Stay: s.Stay}, s.Frozen, files...)
	if err != nil {
		return err
	}
	own := filepath.Join(m.dir, baseFile)
	if r.diff {
		if err := os.Link(own, filepath.Join(s.Dir, baseFile)); err != nil {
			return err
		}
	} else if err := os.Link(filepath.Join(s.Dir, memoryFile), own); err != nil {
		return err
	}
	return syncDir(s.Dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Restore is that of vmm.Restorer. It takes as long for a large memory as for a small one.
func (b Backend) Restore(ctx context.Context, cfg vmm.Config, dir string) (vmm.Machine, error) {
	cfg.Kernel, cfg.Initrd = filepath.Join(dir, memoryFile), filepath.Join(dir, stateFile)
	var from snapshotFiles
	base := filepath.Join(dir, baseFile)
	if _, err := os.Stat(base); err == nil {
		cfg.Kernel, from.diff = base, filepath.Join(dir, memoryFile)
	}
	for _, path := range []string{cfg.Kernel, cfg.Initrd} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", vmm.ErrSnapshot, err)
		}
	}
	// What later snapshots of the new machine differ from.
	own := filepath.Join(cfg.Dir, baseFile)
	if err := os.Link(cfg.Kernel, own); err != nil {
		return nil, fmt.Errorf("%w: %w", vmm.ErrStart, err)
	}
	m, err := b.make(ctx, cfg, &from)
	if err != nil {
		return nil, errors.Join(err, os.Remove(own))
	}
	return m, nil
}
