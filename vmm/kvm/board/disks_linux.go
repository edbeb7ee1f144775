package board

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"capsid/vmm/disk"
)

// openStack opens a disk on copies of its descriptors, which have the same locks.
func openStack(d Disk) (*disk.Stack, error) {
	var files []*os.File
	undo := func() {
		for _, f := range files {
			f.Close()
		}
	}
	for _, f := range d.Layers {
		c, err := duplicate(f)
		if err != nil {
			undo()
			return nil, err
		}
		files = append(files, c)
	}
	s, err := disk.Open(files, d.ReadOnly)
	if err != nil {
		undo()
	}
	return s, err
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// freezeDisks puts a new top on each disk that is written. When one fails, those before it have theirs and work on.
func (b *Board) freezeDisks(tops []*os.File) error {
	var written []*disk.Stack
	for _, d := range b.disks {
		if !d.ReadOnly() {
			written = append(written, d)
		}
	}
	if len(tops) != len(written) {
		return fmt.Errorf("%d new tops for %d disks that are written", len(tops), len(written))
	}
	for i, d := range written {
		top, err := duplicate(tops[i])
		if err != nil {
			return err
		}
		if err := d.Freeze(top); err != nil {
			top.Close()
			return fmt.Errorf("freeze a disk: %w", err)
		}
	}
	return nil
}

// syncDisks brings what was frozen to the host's disk.
func (b *Board) syncDisks() error {
	for _, d := range b.disks {
		if err := d.SyncFrozen(); err != nil {
			return fmt.Errorf("write frozen disks: %w", err)
		}
	}
	return nil
}
