package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// hostile are drivers that break the rules, once the queue of eight descriptors is set up.
var hostile = []struct {
	name string
	do   func(d *driver, q *driverQueue)
}{
	{"head out of the table", func(d *driver, q *driverQueue) { q.offer(8) }},
	{"head 0xffff", func(d *driver, q *driverQueue) { q.offer(0xffff) }},
	{"next out of the table", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{0x1000, 16, descNext, 8})
		q.offer(0)
	}},
	{"next 0xffff", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{0x1000, 16, descNext, 0xffff})
		q.offer(0)
	}},
	{"a descriptor that follows itself", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{0x1000, 16, descNext, 0})
		q.offer(0)
	}},
	{"a cycle", func(d *driver, q *driverQueue) {
		for i := range uint16(8) {
			q.setDesc(i, descriptor{0x1000, 0, descNext, (i + 1) % 8})
		}
		q.offer(3)
	}},
	{"buffer outside of RAM", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{ramSize, 1, 0, 0})
		q.offer(0)
	}},
	{"buffer over the end of RAM", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{ramSize - 8, 9, descWrite, 0})
		q.offer(0)
	}},
	{"buffer over the end of high RAM", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{highRAM + ramSize - 1, 2, descWrite, 0})
		q.offer(0)
	}},
	{"buffer below high RAM", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{highRAM - 1, 2, descWrite, 0})
		q.offer(0)
	}},
	{"buffer that wraps", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{^uint64(0) - 15, 0xffffffff, descWrite, 0})
		q.offer(0)
	}},
	{"longest buffer", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{0, 0xffffffff, descWrite, 0})
		q.offer(0)
	}},
	{"4 GiB in an indirect table", func(d *driver, q *driverQueue) {
		table := d.alloc(descSize*65, 16)
		for i := range uint16(65) {
			q.d.setDescAt(table, i, descriptor{0, ramSize, descWrite | descNext, i + 1})
		}
		q.d.setDescAt(table, 64, descriptor{0, ramSize, descWrite, 0})
		q.setDesc(0, descriptor{table, descSize * 65, descIndirect, 0})
		q.offer(0)
	}},
	{"readable behind writable", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{0x1000, 16, descWrite | descNext, 1})
		q.setDesc(1, descriptor{0x1000, 16, 0, 0})
		q.offer(0)
	}},
	{"available index far ahead", func(d *driver, q *driverQueue) { q.publish(9) }},
	{"available index behind", func(d *driver, q *driverQueue) { q.publish(0xffff) }},
	{"available index half around", func(d *driver, q *driverQueue) { q.publish(0x8000) }},
	{"indirect and next", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{d.alloc(64, 16), 32, descIndirect | descNext, 1})
		q.offer(0)
	}},
	{"indirect in indirect", func(d *driver, q *driverQueue) {
		inner, outer := d.alloc(64, 16), d.alloc(64, 16)
		d.setDescAt(inner, 0, descriptor{0x1000, 16, 0, 0})
		d.setDescAt(outer, 0, descriptor{inner, 16, descIndirect, 0})
		q.setDesc(0, descriptor{outer, 16, descIndirect, 0})
		q.offer(0)
	}},
	{"a table that is its own", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{q.desc, descSize * 8, descIndirect, 0})
		q.offer(0)
	}},
	{"empty table", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{d.alloc(64, 16), 0, descIndirect, 0})
		q.offer(0)
	}},
	{"odd table", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{d.alloc(64, 16), 17, descIndirect, 0})
		q.offer(0)
	}},
	{"half a descriptor", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{d.alloc(64, 16), 8, descIndirect, 0})
		q.offer(0)
	}},
	{"table too long", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{d.alloc(descSize*(maxSegments+1), 16), descSize * (maxSegments + 1), descIndirect, 0})
		q.offer(0)
	}},
	{"longest table", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{0, 0xfffffff0, descIndirect, 0})
		q.offer(0)
	}},
	{"table outside of RAM", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{ramSize - 16, 32, descIndirect, 0})
		q.offer(0)
	}},
	{"table that wraps", func(d *driver, q *driverQueue) {
		q.setDesc(0, descriptor{^uint64(0) - 15, 32, descIndirect, 0})
		q.offer(0)
	}},
	{"next out of an indirect table", func(d *driver, q *driverQueue) {
		table := d.alloc(64, 16)
		d.setDescAt(table, 0, descriptor{0x1000, 16, descNext, 2})
		q.setDesc(0, descriptor{table, 32, descIndirect, 0})
		q.offer(0)
	}},
	{"cycle in an indirect table", func(d *driver, q *driverQueue) {
		table := d.alloc(64, 16)
		d.setDescAt(table, 0, descriptor{0x1000, 16, descNext, 1})
		d.setDescAt(table, 1, descriptor{0x1000, 16, descNext, 0})
		q.setDesc(0, descriptor{table, 32, descIndirect, 0})
		q.offer(0)
	}},
}

// stopped checks that the driver was told of the one fault and that the device does nothing more until it is reset; then it works again.
func (d *driver) stopped() {
	d.t.Helper()
	if err := d.fault(); !errors.Is(err, ErrRing) {
		d.t.Errorf("reported: %v", err)
	}
	for i, q := range d.queues {
		if q.usedWord != nil {
			before := q.usedWord.Load()
			q.offer(0)
			d.write(RegQueueNotify, uint32(i))
			if q.usedWord.Load() != before {
				d.t.Error("the device goes on")
			}
		}
	}
	// Neither a pause nor the driver's word starts it.
	d.dev.Pause()
	d.dev.Resume()
	d.write(regStatus, 15)
	if status := d.read(regStatus); status != 15|statusNeedsReset {
		d.t.Errorf("status %#x", status)
	}
	if d.dev.running || len(d.faults) > 0 {
		d.t.Errorf("running %v, %d more faults", d.dev.running, len(d.faults))
	}
	d.start(allFeatures, 8)
	d.works()
	if len(d.faults) > 0 {
		d.t.Error(<-d.faults)
	}
}

func TestHostileRing(t *testing.T) {
	d := newDriver(t, &echo{})
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			d.t = t
			d.start(allFeatures, 8)
			q := d.queues[0]
			h.do(d, q)
			q.notify()
			d.stopped()
		})
	}
	t.Run("in the middle of the work", func(t *testing.T) {
		for _, h := range hostile[:6] {
			d.t = t
			d.start(allFeatures, 8)
			d.works()
			d.works()
			q := d.queues[0]
			h.do(d, q)
			q.notify()
			d.stopped()
		}
	})
	t.Run("indirect without its feature", func(t *testing.T) {
		d.t = t
		d.start(FeatureVersion1, 8)
		q := d.queues[0]
		q.add(true, d.put([]byte("x")), d.room(1))
		q.kick()
		d.stopped()
	})
	t.Run("both queues at once", func(t *testing.T) {
		d.t = t
		for range 50 {
			d.start(allFeatures, 8)
			for _, q := range d.queues {
				q.offer(0xffff)
			}
			for _, q := range d.queues {
				q.notify()
			}
			d.stopped()
		}
	})
}

// A driver that lets requests that are being served be served again has more of them than the ring.
func TestHostileRepeats(t *testing.T) {
	mem, err := NewMemory(Region{0, make([]byte, 1<<16)})
	if err != nil {
		t.Fatal(err)
	}
	kick, err := newEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer kick.close()
	q, err := newQueue(mem, QueueState{Size: 4, Desc: 0, Avail: 0x1000, Used: 0x2000}, 0, kick, func() {})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := mem.Slice(0x1002, 2)
	var c Chain
	for i := range uint16(4) {
		binary.LittleEndian.PutUint16(b, i+1)
		if ok, err := q.Pop(&c); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	binary.LittleEndian.PutUint16(b, 5)
	if ok, err := q.Pop(&c); ok || !errors.Is(err, ErrRing) {
		t.Errorf("a fifth of four: %v, %v", ok, err)
	}
	q.Push(0, 0)
	if ok, err := q.Pop(&c); !ok || err != nil {
		t.Errorf("after one has returned: %v, %v", ok, err)
	}
	binary.LittleEndian.PutUint16(b, 3) // and takes two back
	if ok, err := q.Pop(&c); ok || !errors.Is(err, ErrRing) {
		t.Errorf("an index that went back: %v, %v", ok, err)
	}
}

func TestHostileSetup(t *testing.T) {
	d := newDriver(t, &echo{})
	for _, c := range []struct {
		name string
		set  func(q *driverQueue)
	}{
		{"size 0", func(q *driverQueue) { q.size = 0 }},
		{"size 3", func(q *driverQueue) { q.size = 3 }},
		{"size 255", func(q *driverQueue) { q.size = 255 }},
		{"size 512, more than there may be", func(q *driverQueue) { q.size = 512 }},
		{"size 0xffff", func(q *driverQueue) { q.size = 0xffff }},
		{"descriptors at 8", func(q *driverQueue) { q.desc += 8 }},
		{"descriptors at 1", func(q *driverQueue) { q.desc++ }},
		{"available ring at 1", func(q *driverQueue) { q.avail++ }},
		{"used ring at 2", func(q *driverQueue) { q.used += 2 }},
		{"descriptors outside of RAM", func(q *driverQueue) { q.desc = ramSize }},
		{"descriptors over the end of RAM", func(q *driverQueue) { q.desc = ramSize - 48 }},
		{"available ring over the end of RAM", func(q *driverQueue) { q.avail = ramSize - 12 }},
		{"used ring over the end of RAM", func(q *driverQueue) { q.used = highRAM + ramSize - 36 }},
		{"used ring far out", func(q *driverQueue) { q.used = 1 << 63 }},
		{"used ring that wraps", func(q *driverQueue) { q.used = ^uint64(0) - 3 }},
		{"descriptors that wrap", func(q *driverQueue) { q.desc = ^uint64(0) - 15 }},
		{"used ring on the descriptors", func(q *driverQueue) { q.used = q.desc }},
		{"used ring on the last descriptor", func(q *driverQueue) { q.used = q.desc + 60 }},
		{"used ring ends on the descriptors", func(q *driverQueue) { q.used = q.desc - 36 }},
		{"used ring on the available ring", func(q *driverQueue) { q.used = q.avail }},
		{"used ring on the used_event", func(q *driverQueue) { q.used = q.avail + 12 }},
		{"available ring on the descriptors", func(q *driverQueue) { q.avail = q.desc + 32 }},
		{"descriptors on the available ring", func(q *driverQueue) { q.desc = q.avail &^ 15 }},
	} {
		for i := range d.queues {
			t.Run(fmt.Sprintf("%s, queue %d", c.name, i), func(t *testing.T) {
				d.t = t
				d.negotiate(allFeatures)
				d.allocHigh(4096, 16) // so that there is RAM before the rings
				for j, q := range d.queues {
					q.lay(4)
					if q.usedWord = nil; j == i {
						c.set(q)
					}
					q.register()
					d.write(regQueueReady, 1)
				}
				d.write(regStatus, 15)
				d.stopped()
			})
		}
	}
}

// All of RAM changes under the device while it works.
func TestHostileChanges(t *testing.T) {
	d := newDriver(t, &echo{})
	for round := range uint64(20) {
		d.start(allFeatures, 8)
		q := d.queues[0]
		in, out := d.put([]byte("hello")), d.room(5)
		x := round*0x9e3779b97f4a7c15 + 1
		for range 2000 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			i := uint16(x>>8) % 8
			switch x % 4 {
			case 0:
				q.setDesc(i, descriptor{in.at, 5, descNext, uint16(x>>16) % 9})
			case 1:
				q.setDesc(i, descriptor{out.at, uint32(x >> 62), descWrite, 0})
			case 2:
				q.setDesc(i, descriptor{q.desc, uint32(x>>60) * 16, descIndirect, 0})
			case 3:
				q.offer(uint16(x>>16) % 9)
				q.notify()
			}
		}
		d.reset()
		for len(d.faults) > 0 {
			if err := <-d.faults; !errors.Is(err, ErrRing) {
				t.Error(err)
			}
		}
		d.start(allFeatures, 8)
		d.works()
	}
}
