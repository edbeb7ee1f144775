package virtio

import (
	"errors"
	"fmt"
	"slices"
)

// ErrMemory: an address of the guest that is not RAM, or a range that leaves it.
var ErrMemory = errors.New("not in guest memory")

// Region is RAM that is contiguous for the guest and for the host.
type Region struct {
	Base  uint64 // guest-physical address
	Bytes []byte
}

// Memory is the guest's RAM as devices see it. What it gives out is shared with the guest, which may change it at any time: whoever
// decides by what is there copies it first.
type Memory struct{ regions []Region }

// NewMemory takes regions in any order. They must not overlap nor wrap.
func NewMemory(regions ...Region) (*Memory, error) {
	m := &Memory{regions: slices.Clone(regions)}
	slices.SortFunc(m.regions, func(a, b Region) int {
		if a.Base < b.Base {
			return -1
		}
		return 1
	})
	end := uint64(0)
	for _, r := range m.regions {
		if r.Base < end || r.Base+uint64(len(r.Bytes)) < r.Base {
			return nil, fmt.Errorf("guest memory: region at %#x overlaps another or wraps", r.Base)
		}
		end = r.Base + uint64(len(r.Bytes))
	}
	return m, nil
}

// Slice is the n bytes at a guest-physical address. A range that crosses from one region into the next is refused: no driver has one,
// for there is no RAM between them.
func (m *Memory) Slice(gpa, n uint64) ([]byte, error) {
	for i := range m.regions {
		r := &m.regions[i]
		if gpa < r.Base {
			break
		}
		off, size := gpa-r.Base, uint64(len(r.Bytes))
		if off < size || off == size && n == 0 {
			if n > size-off {
				break
			}
			return r.Bytes[off : off+n : off+n], nil
		}
	}
	return nil, fmt.Errorf("%w: %d bytes at %#x", ErrMemory, n, gpa)
}

// Regions are the parts of RAM, in the order of their addresses.
func (m *Memory) Regions() []Region { return m.regions }
