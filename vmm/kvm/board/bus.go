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
	base    uint64
	slots   []*virtio.MMIO
	windows []window // what is no slot
}

// window is where registers lie.
type window struct {
	base, size uint64
	registers
}

// registers serve accesses at offsets.
type registers interface {
	Read(off uint64, p []byte)
	Write(off uint64, p []byte)
}

func (b *bus) find(addr uint64) (registers, uint64) {
	if i, off := (addr-b.base)/slotSize, (addr-b.base)%slotSize; addr >= b.base && i < uint64(len(b.slots)) && off < slotWindow {
		return b.slots[i], off
	}
	for _, w := range b.windows {
		if addr >= w.base && addr-w.base < w.size {
			return w.registers, addr - w.base
		}
	}
	return nil, 0
}

// access serves a guest's access to memory that is none. Where nothing is, reads give ones and writes are lost, as on a bus without a taker.
func (b *bus) access(addr uint64, p []byte, write bool) {
	device, off := b.find(addr)
	switch {
	case device == nil && !write:
		for i := range p {
			p[i] = 0xff
		}
	case device == nil:
	case write:
		device.Write(off, p)
	default:
		device.Read(off, p)
	}
}
