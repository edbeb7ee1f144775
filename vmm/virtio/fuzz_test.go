package virtio

import (
	"encoding/binary"
	"errors"
)

// fuzz makes a descriptor of each eight bytes, offers the heads in order, says that there are as many requests as ahead, and kicks.
func (q *driverQueue) fuzz(ahead uint16, table []byte) {
	// What an address is relative to: low RAM, its end, the rings, the end of all RAM, nothing.
	bases := []uint64{0, ramSize - 1<<16, q.desc, highRAM + ramSize - 1<<16, 1 << 63}
	for i := range q.size {
		if len(table) >= 8 {
			d := descriptor{
				addr: bases[int(table[0])%len(bases)] + uint64(binary.LittleEndian.Uint16(table[1:])),
				len:  uint32(binary.LittleEndian.Uint16(table[3:])) << (table[5] % 17), flags: uint16(table[6]), next: uint16(table[7]),
			}
			q.setDesc(i, d)
			table = table[8:]
		}
		binary.LittleEndian.PutUint16(q.d.bytes(q.avail+4+2*uint64(i), 2), i)
	}
	q.publish(ahead)
	q.notify()
}

// onlyRingFaults lets no fault pass but those of the driver.
func (d *driver) onlyRingFaults() {
	for {
		select {
		case err := <-d.faults:
			if !errors.Is(err, ErrRing) {
				d.t.Error(err)
			}
		default:
			return
		}
	}
}
