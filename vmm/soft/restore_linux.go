package soft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"capsid/vmm"
)

// Restore is that of vmm.Restorer.
func (b Backend) Restore(ctx context.Context, cfg vmm.Config, dir string) (vmm.Machine, error) {
	stream, err := os.Open(filepath.Join(dir, streamFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", vmm.ErrSnapshot, err)
	}
	defer stream.Close()
	// They are in memory already; the checks want files.
	cfg.Kernel, cfg.Initrd = stream.Name(), stream.Name()
	if cfg, err = cfg.Check(); err != nil {
		return nil, err
	}
	a, path, probe := b.find(ctx)
	if !probe.Usable {
		return nil, fmt.Errorf("%w: %s (%s)", vmm.ErrStart, probe.Reason, probe.Fix)
	}
	if err := compare(cfg, probe.Detail, dir, stream); err != nil {
		return nil, fmt.Errorf("%w: %w", vmm.ErrSnapshot, err)
	}
	m, err := launch(ctx, a, path, cfg, dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", vmm.ErrStart, err)
	}
	m.info.Backend, m.info.Detail = b.Name(), probe.Detail
	return m, nil
}

// compare says how what was saved differs from the machine that is to be made.
func compare(cfg vmm.Config, qemu, dir string, stream *os.File) error {
	had, err := readDescribed(filepath.Join(dir, machineFile))
	if err != nil {
		return err
	}
	has, err := describe(cfg, qemu)
	if err != nil {
		return err
	}
	info, err := stream.Stat()
	if err != nil {
		return err
	}
	switch {
	case had.Format != has.Format:
		return fmt.Errorf("it is of the format %.40q, not %q", had.Format, has.Format)
	case had.Version != has.Version:
		return fmt.Errorf("it is of version %d, and this program reads %d", had.Version, has.Version)
	case had.Arch != has.Arch:
		return fmt.Errorf("it is of a processor %.40q, not %s", had.Arch, has.Arch)
	case had.QEMU != has.QEMU:
		return fmt.Errorf("it was taken by %.40q, and this is %s", had.QEMU, has.QEMU)
	case had.CPUs != has.CPUs || had.Memory != has.Memory:
		return fmt.Errorf("it has %d processors and %d bytes of memory, not %d and %d", had.CPUs, had.Memory, has.CPUs, has.Memory)
	case !slices.Equal(had.Disks, has.Disks):
		return errors.New("it has other disks")
	case had.Stream != info.Size() || had.Stream == 0:
		return fmt.Errorf("%s has %d bytes, not %d", streamFile, info.Size(), had.Stream)
	}
	return nil
}

func readDescribed(path string) (d described, err error) {
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDescribed+1))
	if err == nil && len(b) > maxDescribed {
		err = fmt.Errorf("more than %d bytes", maxDescribed)
	}
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		return d, fmt.Errorf("%s: %w", machineFile, err)
	}
	return d, nil
}

// load has QEMU become what a snapshot's stream holds; its memory is that already. It rests afterwards. QEMU ends when it cannot.
func (m *machine) load(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, streamFile))
	if err != nil {
		return fmt.Errorf("%w: %w", vmm.ErrSnapshot, err)
	}
	defer f.Close()
	if err := m.prepare(ctx, f); err != nil {
		return err
	}
	_, err = m.mon.call(ctx, "migrate-incoming", map[string]string{"uri": "fd:" + fdName}, nil)
	if err == nil {
		err = m.migration(ctx)
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", vmm.ErrSnapshot, m.explain(ctx, err))
	}
	return err
}
