package boot

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	pageSize = 4096
	lowEnd   = 1 << 20 // of what a PC's BIOS and its data have

	// What is put below the BIOS area. Linux reserves the first 64 KiB and copies what it was given before it allocates memory.
	gdtAt        = 0x500
	startInfoAt  = 0x6000
	zeroPageAt   = 0x7000
	pageTablesAt = 0x9000 // six pages
	cmdlineAt    = 0x20000

	// maxEntries of a memory map: E820_MAX_ENTRIES_ZEROPAGE (arch/x86/include/uapi/asm/bootparam.h).
	maxEntries = 128
)

// Types of memory, as INT 15h AX=E820h numbers them (ACPI 6.5 §15.1).
const (
	typeRAM      = 1
	typeReserved = 2
)

// entry is a line of the memory map.
type entry struct {
	Range
	kind uint32
}

// layout is what of the guest's memory may be used.
type layout struct {
	entries []entry // by address, without overlaps
}

// newPCLayout is that of a PC, whose memory begins at 0 and has the BIOS area in it.
func newPCLayout(ram, reserved []Range) (*layout, error) {
	if len(ram) == 0 || ram[0].Base != 0 || ram[0].Size < 2*lowEnd {
		return nil, fmt.Errorf("%w: RAM does not begin with 2 MiB at 0", ErrMemory)
	}
	for _, r := range reserved {
		if r.Base < lowEnd {
			return nil, fmt.Errorf("%w: reserved range %v is below 1 MiB", ErrMemory, r)
		}
	}
	// What PCs have behind the end of conventional memory: among others the ACPI tables, from 0xe0000 on.
	bios := Range{0x9fc00, lowEnd - 0x9fc00}
	return newLayout(ram, reserved, bios)
}

// newLayout takes ranges of whole pages, and holes that need not be.
func newLayout(ram, reserved []Range, holes ...Range) (*layout, error) {
	if len(ram)+2*(len(reserved)+len(holes)) > maxEntries {
		return nil, fmt.Errorf("%w: %d ranges, %d of them reserved; too many for the map", ErrMemory, len(ram)+len(reserved), len(reserved))
	}
	var end uint64
	for i, r := range ram {
		if r.Base%pageSize != 0 || r.Size%pageSize != 0 || r.Size == 0 || r.End() < r.Base || r.Base < end {
			return nil, fmt.Errorf("%w: RAM range %d is %v", ErrMemory, i, r)
		}
		end = r.End()
	}
	for _, r := range reserved {
		if r.Base%pageSize != 0 || r.Size%pageSize != 0 {
			return nil, fmt.Errorf("%w: reserved range %v is not of whole pages", ErrMemory, r)
		}
	}
	holes = append(holes, reserved...)
	slices.SortFunc(holes, func(a, b Range) int { return cmp.Compare(a.Base, b.Base) })
	for i, h := range holes {
		inside := slices.ContainsFunc(ram, func(r Range) bool { return r.contains(h) })
		if h.End() <= h.Base || !inside || i > 0 && holes[i-1].End() > h.Base {
			return nil, fmt.Errorf("%w: reserved range %v is not in RAM, or overlaps another", ErrMemory, h)
		}
	}
	l := &layout{}
	for _, r := range ram {
		at := r.Base
		for _, h := range holes {
			if r.contains(h) {
				l.add(at, h.Base, typeRAM)
				l.add(h.Base, h.End(), typeReserved)
				at = h.End()
			}
		}
		l.add(at, r.End(), typeRAM)
	}
	return l, nil
}

func (l *layout) add(from, to uint64, kind uint32) {
	if from < to {
		l.entries = append(l.entries, entry{Range{from, to - from}, kind})
	}
}

// free says whether all of r may be used, and lies behind the first MiB.
func (l *layout) free(r Range) bool {
	return r.Base >= lowEnd && r.End() >= r.Base && slices.ContainsFunc(l.entries, func(e entry) bool { return e.kind == typeRAM && e.contains(r) })
}

// highest finds the highest place for size bytes, from a page's beginning on, that are free between floor and limit.
func (l *layout) highest(size, floor, limit uint64) (Range, error) {
	floor = max(floor, lowEnd)
	for _, e := range slices.Backward(l.entries) {
		from, to := max(e.Base, floor), min(e.End(), limit)
		if e.kind != typeRAM || to < from || to-from < size {
			continue
		}
		if at := (to - size) &^ (pageSize - 1); at >= from {
			return Range{at, size}, nil
		}
	}
	return Range{}, fmt.Errorf("%w: no room for %d bytes between %#x and %#x", ErrMemory, size, floor, limit)
}
