package board

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ram is the guest's memory: one file in memory, mapped shared, so that it can later be handed on or frozen in place without a copy. Its pages are
// taken from the host when they are first touched.
type ram struct {
	fd    int
	bytes []byte
}

func newRAM(size int64) (*ram, error) {
	fd, err := unix.MemfdCreate("guest memory", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("guest memory: memfd_create: %w", err)
	}
	r := &ram{fd: fd}
	if err := unix.Ftruncate(fd, size); err != nil {
		r.close()
		return nil, fmt.Errorf("guest memory of %d bytes: %w", size, err)
	}
	// Nobody but the guest's owner decides how much is used: no reservation, and no part of it in a core dump.
	b, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		r.close()
		return nil, fmt.Errorf("guest memory of %d bytes: mmap: %w", size, err)
	}
	r.bytes = b
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // where the host gives huge pages to shared memory at all
	return r, nil
}

func (r *ram) close() {
	if r.bytes != nil {
		unix.Munmap(r.bytes)
	}
	unix.Close(r.fd)
}
