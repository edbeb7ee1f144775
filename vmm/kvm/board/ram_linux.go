package board

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"capsid/vmm/sparse"
	"capsid/vmm/virtio"
)

// ram is the guest's memory. At first it is a file in memory, mapped shared. Frozen, that file stays as it is and is mapped private over itself: what the guest
// writes from then on goes to pages of its own. A restored machine's is so from the beginning, over a snapshot's file, which all
// machines that were restored from it share.
type ram struct {
	bytes   []byte
	mapped  []byte          // bytes, and what is around them
	base    *os.File        // what is mapped
	private bool            // mapped private
	kept    bool            // what base holds is in a snapshot's file too, so that another snapshot may be what differs from it
	over    []sparse.Extent // parts that do not come from base but from a later snapshot
	pagemap *os.File        // /proc/self/pagemap
	mapping atomic.Int32    // virtio.Mapping, for the balloon
}

const pageSize = sparse.Page

func newRAM(size int64, pagemap *os.File) (*ram, error) {
	fd, err := unix.MemfdCreate("guest memory", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("guest memory: memfd_create: %w", err)
	}
	base := os.NewFile(uintptr(fd), "guest memory")
	if err := base.Truncate(size); err != nil {
		base.Close()
		return nil, fmt.Errorf("guest memory of %d bytes: %w", size, err)
	}
	r := &ram{base: base, pagemap: pagemap}
	r.mapping.Store(int32(virtio.Shared))
	if err := r.mmap(size, unix.MAP_SHARED); err != nil {
		base.Close()
		return nil, err
	}
	_ = unix.Madvise(r.bytes, unix.MADV_HUGEPAGE) // where the host gives huge pages to shared memory at all
	return r, nil
}

// mmap maps the base. Both ends of its pages are at the same place of a huge page: then one entry of the processor's tables can do for 512 of them.
func (r *ram) mmap(size int64, flags int) error {
	// Nobody but the guest's owner decides how much is used: no reservation, and no part of it in a core dump.
	flags |= unix.MAP_NORESERVE
	b, err := unix.Mmap(-1, 0, int(size)+hugeSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("guest memory of %d bytes: mmap: %w", size, err)
	}
	r.mapped = b
	// The address is only counted with; what it is the address of stays.
	at := (hugeSize - int(uintptr(unsafe.Pointer(&b[0]))%hugeSize)) % hugeSize
	r.bytes = b[at:][:size:size]
	// It replaces a part of the mapping above, in which Go keeps nothing.
	if _, err := unix.MmapPtr(int(r.base.Fd()), 0, unsafe.Pointer(&r.bytes[0]), uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED); err != nil {
		unix.Munmap(b)
		return fmt.Errorf("guest memory of %d bytes: mmap: %w", size, err)
	}
	_ = unix.Madvise(r.bytes, unix.MADV_DONTDUMP)
	return nil
}

// hugeSize is that of a huge page, of x86-64 and of arm64 with pages of 4 KiB.
const hugeSize = 2 << 20

// huge makes huge pages of a part of memory that is about to be filled, as far as the host has them. Few hosts give them to memory that is shared unless
// they are asked for each (since Linux 6.1); and each page that is not huge costs the guest an exit at its first use.
func (r *ram) huge(part []byte) {
	// Addresses are only counted with. Both are of one mapping.
	start := int(uintptr(unsafe.Pointer(&part[0]))-uintptr(unsafe.Pointer(&r.bytes[0]))) &^ (hugeSize - 1)
	end := min(start+len(part)+hugeSize, len(r.bytes)) &^ (hugeSize - 1)
	if start >= end {
		return
	}
	for at := start; at < end; at += hugeSize {
		// The kernel makes no huge page where it has none at all.
		_ = unix.Madvise(r.bytes[at:at+pageSize], unix.MADV_POPULATE_WRITE)
	}
	_ = unix.Madvise(r.bytes[start:end], unix.MADV_COLLAPSE)
}

// loading is memory that a kernel is read into.
type loading struct {
	*virtio.Memory
	ram *ram
}

// Slice is that of the memory.
func (l loading) Slice(gpa, n uint64) ([]byte, error) {
	b, err := l.Memory.Slice(gpa, n)
	if err == nil && n >= hugeSize {
		l.ram.huge(b)
	}
	return b, err
}

const (
	// Linux takes memory from the end of the highest region first, where it describes each page in 64 bytes (struct page), and has tables and
	// stacks for its processors; and then, when it unpacks the initramfs and has programs run, what lies behind its image.
	pageStruct = 64
	firstUse   = 16 << 20
)

// ahead makes huge pages of what the kernel will use at once and to the last byte. The initramfs has been loaded.
func (l loading) ahead(initrd int64) {
	regions := l.Regions()
	last := regions[len(regions)-1].Bytes
	take := len(l.ram.bytes)/pageSize*pageStruct + firstUse
	if len(regions) == 1 {
		take += int(initrd) // lies above it
	}
	l.ram.huge(last[max(0, len(last)-take):])
}

// discard gives pages of the guest's back to the host.
func (r *ram) discard(b []byte) error { return virtio.Mapping(r.mapping.Load()).Discard(b) }

func (r *ram) close() {
	if r.mapped != nil {
		unix.Munmap(r.mapped)
	}
	r.base.Close()
}

// frozen is the guest's memory at one moment: of a base, nil if it is none, with what is in own over it, nil if there is nothing.
type frozen struct {
	base *os.File
	own  *os.File // to be closed; a hole is as in the base
}

// diff says that it is what differs from a base that was written before.
func (z frozen) diff() bool { return z.base == nil }

// freeze keeps memory as it is while no processor or device runs. The first time it costs one call, however much there is; later, as much as the guest has written since.
func (r *ram) freeze() (frozen, error) {
	if r.private {
		return r.copyPrivate()
	}
	// The address stays: KVM is told by the kernel that what it knew of the pages holds no more.
	if err := mapOver(r.bytes, r.base, 0); err != nil {
		return frozen{}, err
	}
	_ = unix.Madvise(r.bytes, unix.MADV_DONTDUMP)
	r.private = true
	r.mapping.Store(int32(virtio.PrivateFile))
	// Nobody changes the file any more, this process included: what a guest must not see change is sealed.
	_, _ = unix.FcntlInt(r.base.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	return frozen{base: r.base}, nil
}

// mapOver maps a part of a file, private, in place of what is mapped at b, whole pages.
func mapOver(b []byte, f *os.File, offset int64) error {
	// The address is that of a mapping of ours, which is replaced in one step; Go keeps no memory there.
	_, _, errno := unix.Syscall6(unix.SYS_MMAP, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE, f.Fd(), uintptr(offset))
	if errno != 0 {
		return fmt.Errorf("guest memory: private mapping: %w", errno)
	}
	return nil
}

// copyPrivate copies what differs from the base.
func (r *ram) copyPrivate() (frozen, error) {
	spans, err := r.privateSpans()
	if err != nil {
		return frozen{}, err
	}
	fd, err := unix.MemfdCreate("guest memory, changed", unix.MFD_CLOEXEC)
	if err != nil {
		return frozen{}, fmt.Errorf("guest memory: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "guest memory, changed")
	err = f.Truncate(int64(len(r.bytes)))
	for _, s := range spans {
		if err == nil {
			_, err = f.WriteAt(r.bytes[s.Start:s.End], s.Start)
		}
	}
	if err != nil {
		f.Close()
		return frozen{}, fmt.Errorf("guest memory: copy of what has changed: %w", err)
	}
	if r.kept {
		return frozen{own: f}, nil
	}
	return frozen{r.base, f}, nil
}

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageOfFile  = 1 << 61
)

// privateSpans are the pages that do not come from the base: those that the guest has written, and those of a later snapshot.
func (r *ram) privateSpans() ([]sparse.Extent, error) {
	if os.Getpagesize() != pageSize {
		return nil, fmt.Errorf("pages of %d bytes are not supported here", os.Getpagesize())
	}
	first := int64(uintptr(unsafe.Pointer(&r.bytes[0])) / pageSize) // the address is looked up, not used
	entries := make([]byte, 1<<20)
	var spans []sparse.Extent
	for page, pages := int64(0), int64(len(r.bytes)/pageSize); page < pages; {
		n := min(int64(len(entries)/8), pages-page)
		if _, err := r.pagemap.ReadAt(entries[:n*8], (first+page)*8); err != nil {
			return nil, fmt.Errorf("guest memory: pagemap: %w", err)
		}
		for i := range n {
			e := binary.NativeEndian.Uint64(entries[i*8:])
			if e&(pagePresent|pageSwapped) != 0 && e&pageOfFile == 0 {
				spans = sparse.Add(spans, sparse.Extent{Start: (page + i) * pageSize, End: (page + i + 1) * pageSize})
			}
		}
		page += n
	}
	return union(spans, r.over), nil
}

func union(a, b []sparse.Extent) []sparse.Extent {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y sparse.Extent) int { return cmp.Compare(x.Start, y.Start) })
	var out []sparse.Extent
	for _, e := range all {
		out = sparse.Add(out, e)
	}
	return out
}

// write puts frozen memory into an empty file, makes that of the guest's size, and waits for the disk.
func (z frozen) write(to *os.File, size int64) error {
	if err := to.Truncate(size); err != nil {
		return err
	}
	if z.base != nil {
		// Pages of zeros may be holes: there is nothing below.
		if err := sparse.Copy(context.Background(), to, z.base, size, false); err != nil {
			return err
		}
	}
	if z.own != nil {
		if err := sparse.Copy(context.Background(), to, z.own, size, true); err != nil {
			return err
		}
	}
	return to.Sync()
}

func (z frozen) close() {
	if z.own != nil {
		z.own.Close()
	}
}

const (
	// Parts of a later snapshot that are at least so long are mapped, the others read: a mapping costs the kernel about as much as a copy of a few pages, and
	// a process may have 65530 (vm.max_map_count).
	mappedSpan = 16 * pageSize
	maxMapped  = 20_000
)

// restoreRAM maps a snapshot's memory. Its cost does not grow with the memory: a page is read when it is used. diff, if any, is what a later snapshot
// holds that differs from base.
func restoreRAM(size int64, base, diff, pagemap *os.File) (*ram, error) {
	for _, f := range []*os.File{base, diff} {
		if f == nil {
			continue
		}
		if info, err := f.Stat(); err != nil || info.Size() != size || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%w: memory is not a file of %d bytes", ErrState, size)
		}
	}
	own, err := unix.FcntlInt(base.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("guest memory: %w", err)
	}
	r := &ram{base: os.NewFile(uintptr(own), base.Name()), private: true, kept: true, pagemap: pagemap}
	r.mapping.Store(int32(virtio.PrivateFile))
	if err := r.mmap(size, unix.MAP_PRIVATE); err != nil {
		r.base.Close()
		return nil, err
	}
	if diff != nil {
		if err := r.overlay(diff); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

func (r *ram) overlay(diff *os.File) error {
	spans, err := sparse.Extents(diff, int64(len(r.bytes)))
	if err != nil {
		return err
	}
	mapped := 0
	for _, s := range spans {
		b := r.bytes[s.Start:s.End]
		if s.End-s.Start >= mappedSpan && mapped < maxMapped {
			mapped++
			err = mapOver(b, diff, s.Start)
		} else {
			_, err = diff.ReadAt(b, s.Start)
		}
		if err != nil {
			return fmt.Errorf("guest memory: %w", err)
		}
	}
	_ = unix.Madvise(r.bytes, unix.MADV_DONTDUMP)
	r.over = spans
	return nil
}
