package soft

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"capsid/vmm"
	"capsid/vmm/sparse"
)

// A machine's memory is a file without a name that QEMU maps shared. So QEMU need not write it when the machine is saved (x-ignore-shared of qapi/migration.json): it is
// copied here, where only what the guest has used costs anything. QEMU would look at each page, which makes one of each that was never used.

// newMemory makes the memory of a machine, zeros or, when it goes on from a snapshot, what the memory was then.
func newMemory(ctx context.Context, size int64, dir string) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memory")
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := f.Truncate(size); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	if dir == "" {
		return f, nil
	}
	was, err := os.Open(filepath.Join(dir, memoryFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", vmm.ErrSnapshot, err)
	}
	defer was.Close()
	if info, err := was.Stat(); err != nil || info.Size() != size {
		return nil, fmt.Errorf("%w: %s has not %d bytes (%v)", vmm.ErrSnapshot, memoryFile, size, err)
	}
	return f, sparse.Copy(ctx, f, was, size, false)
}

// saveMemory writes the memory of a machine that rests.
func (m *machine) saveMemory(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, memoryFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(m.cfg.Memory); err == nil {
		err = sparse.Copy(ctx, f, m.memory, m.cfg.Memory, false)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
