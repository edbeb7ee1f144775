package virtio

import (
	"encoding/binary"
	"errors"
	"testing"
	"unsafe"
)

// Whatever lies in the rings, Pop gives only what is RAM, ends, and says that the driver is wrong or that nothing is there; the device scribbles over
// all that it may write meanwhile.
func FuzzQueue(f *testing.F) {
	const lowSize, highBase, highSize = 16 << 10, 1 << 32, 4 << 10
	le := binary.LittleEndian
	one := make([]byte, 0x400)
	copy(one, le.AppendUint64(nil, 0x2000))
	copy(one[8:], []byte{16, 0, 0, 0, descNext, 0, 1, 0})
	copy(one[16:], le.AppendUint64(nil, highBase))
	copy(one[24:], []byte{0, 8, 0, 0, descWrite, 0, 0, 0})
	copy(one[32:], le.AppendUint64(nil, 0x40))
	copy(one[40:], []byte{64, 0, 0, 0, descIndirect, 0, 0, 0})
	copy(one[64:], one[:32])
	copy(one[0x200:], []byte{0, 0, 2, 0, 0, 0, 2, 0})
	f.Add(uint8(3), uint8(3), uint16(0), uint16(0), uint16(0x200), uint16(0x300), one)
	f.Add(uint8(2), uint8(0), uint16(65534), uint16(0x3000), uint16(0x200), uint16(0x300), one)
	f.Add(uint8(3), uint8(3), uint16(0), uint16(0), uint16(0x204), uint16(0x10), one)
	f.Fuzz(func(t *testing.T, exp, features uint8, next, desc, avail, used uint16, data []byte) {
		low, high := make([]byte, lowSize), make([]byte, highSize)
		copy(low, data)
		copy(high, data[min(len(data), lowSize):])
		mem, err := NewMemory(Region{0, low}, Region{highBase, high})
		if err != nil {
			t.Fatal(err)
		}
		kick, err := newEvent()
		if err != nil {
			t.Fatal(err)
		}
		defer kick.close()
		s := QueueState{Size: 1 << (exp % 12), Desc: uint64(desc), Avail: uint64(avail), Used: uint64(used), NextAvail: next, NextUsed: next}
		q, err := newQueue(mem, s, uint64(features)<<28, kick, func() {})
		if err != nil {
			if !errors.Is(err, ErrRing) {
				t.Error(err)
			}
			return
		}
		inside := func(b []byte) bool { // without looking at guest-physical addresses, which is what Slice does
			for _, r := range [][]byte{low, high} {
				first, p := uintptr(unsafe.Pointer(&r[0])), uintptr(unsafe.Pointer(&b[0]))
				if p >= first && p+uintptr(len(b)) <= first+uintptr(len(r)) && cap(b) == len(b) {
					return true
				}
			}
			return false
		}
		var c Chain
		for n := range 200 {
			before := q.nextAvail
			ok, err := q.Pop(&c)
			if err != nil {
				if !errors.Is(err, ErrRing) || ok || q.nextAvail != before {
					t.Errorf("%v, %v, index from %d to %d", ok, err, before, q.nextAvail)
				}
				return
			}
			if !ok {
				q.Signal()
				if !q.Rearm() {
					return
				}
				continue
			}
			if q.nextAvail != before+1 || int(c.Head) >= q.Size() {
				t.Errorf("head %d of %d, index from %d to %d", c.Head, q.Size(), before, q.nextAvail)
			}
			if len(c.Readable)+len(c.Writable) > q.Size()+maxSegments {
				t.Errorf("%d and %d buffers", len(c.Readable), len(c.Writable))
			}
			for _, b := range c.Readable {
				if len(b) == 0 || !inside(b) {
					t.Fatalf("%d bytes that are not RAM", len(b))
				}
			}
			for i, b := range c.Writable {
				if len(b) == 0 || !inside(b) {
					t.Fatalf("%d bytes that are not RAM", len(b))
				}
				if i < 4 {
					for j := range b {
						b[j] ^= byte(n + j)
					}
				}
			}
			if n%3 == 0 {
				q.Undo()
				if ok, err := q.Pop(&c); !ok && err == nil && uint16(q.availWord.Load()>>16) != q.nextAvail {
					t.Error("the request has gone")
				} else if !ok {
					return
				}
			}
			q.Push(c.Head, uint32(n))
			if n%2 == 0 {
				q.Signal()
			}
		}
	})
}
