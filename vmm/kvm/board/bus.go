package board

import "capsid/vmm/virtio"

// The virtio devices' registers: slot i at slotBase + i·slotSize, interrupt firstGSI + i.
const (
	slotSize     = 0x1000
	slotWindow   = 0x200 // of registers
	maxSlots     = 4 + maxDisks
	maxDisks     = 8
	vmgenidBytes = 16
)

// bus finds the device of an address.
type bus struct {
	base  uint64
	slots []*virtio.MMIO
}

func (b *bus) find(addr uint64) (*virtio.MMIO, uint64) {
	if addr < b.base {
		return nil, 0
	}
	i, off := (addr-b.base)/slotSize, (addr-b.base)%slotSize
	if i >= uint64(len(b.slots)) || off >= slotWindow {
		return nil, 0
	}
	return b.slots[i], off
}

// access serves a guest's access to memory that is none. Where nothing is, reads give ones and writes are lost, as on a bus without a taker.
func (b *bus) access(addr uint64, p []byte, write bool) {
	slot, off := b.find(addr)
	switch {
	case slot == nil && !write:
		for i := range p {
			p[i] = 0xff
		}
	case slot == nil:
	case write:
		slot.Write(off, p)
	default:
		slot.Read(off, p)
	}
}
