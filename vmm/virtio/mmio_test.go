package virtio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

func TestMMIOIdentity(t *testing.T) {
	d := newDriver(t, &echo{})
	for reg, want := range map[uint64]uint32{
		regMagic: 0x74726976, regVersion: 2, regDeviceID: 42, regVendorID: vendor, regStatus: 0, regInterrupt: 0,
		regShmLenLow: 0xffffffff, regShmLenLow + 4: 0xffffffff, regShmBaseHigh: 0xffffffff, 0x0c0: 0, 0x0fc - 4: 0,
	} {
		if got := d.read(reg); got != want {
			t.Errorf("register %#x is %#x", reg, got)
		}
	}
	if got := d.offered(); got != 1<<3|1<<28|1<<29|1<<32|1<<40 {
		t.Errorf("features %#x", got)
	}
	d.write(regDeviceFeaturesSel, 2)
	if got := d.read(regDeviceFeatures); got != 0 {
		t.Errorf("features from bit 64 on: %#x", got)
	}
	for queue, want := range []uint32{256, 4, 0, 0} {
		d.write(regQueueSel, uint32(queue))
		if got := d.read(regQueueSizeMax); got != want {
			t.Errorf("queue %d: size %d", queue, got)
		}
	}
	d.write(regQueueSel, ^uint32(0))
	d.write(regQueueReady, 1)
	if d.read(regQueueSizeMax) != 0 || d.read(regQueueReady) != 0 {
		t.Error("there is a last queue")
	}
}

func TestMMIONegotiation(t *testing.T) {
	e := &echo{}
	d := newDriver(t, e)
	const ready = statusAcknowledge | statusDriver
	for _, c := range []struct {
		name     string
		features uint64
		want     uint32
	}{
		{"nothing", 0, ready},
		{"no VERSION_1", FeatureIndirect, ready},
		{"the least", FeatureVersion1, ready | statusFeaturesOK},
		{"all", FeatureVersion1 | FeatureIndirect | FeatureEventIdx | 1<<3 | 1<<40, ready | statusFeaturesOK},
		{"one that is not offered", FeatureVersion1 | 1<<4, ready},
		{"a high one that is not offered", FeatureVersion1 | 1<<63, ready},
	} {
		d.reset()
		d.write(regStatus, statusAcknowledge)
		d.write(regStatus, ready)
		for i := range uint32(2) {
			d.write(regDriverFeaturesSel, i)
			d.write(regDriverFeatures, uint32(c.features>>(32*i)))
		}
		d.write(regDriverFeaturesSel, 2)
		d.write(regDriverFeatures, ^uint32(0))
		d.write(regStatus, ready|statusFeaturesOK)
		if got := d.read(regStatus); got != c.want {
			t.Errorf("%s: status %#x, want %#x", c.name, got, c.want)
		}
		if c.want&statusFeaturesOK == 0 { // §3.1.1: then there is no DRIVER_OK
			d.write(regStatus, ready|statusFeaturesOK|statusDriverOK)
			if got := d.read(regStatus); got&statusDriverOK != 0 {
				t.Errorf("%s: status %#x", c.name, got)
			}
			// A driver may think better of it.
			d.write(regDriverFeaturesSel, 0)
			d.write(regDriverFeatures, 0)
			d.write(regDriverFeaturesSel, 1)
			d.write(regDriverFeatures, 1)
			d.write(regStatus, ready|statusFeaturesOK)
			if got := d.read(regStatus); got != ready|statusFeaturesOK {
				t.Errorf("%s: second try: status %#x", c.name, got)
			}
		}
	}
	// The device works with what was taken, and with nothing that the driver says later.
	d.start(FeatureVersion1 | FeatureEventIdx | 1<<3)
	d.write(regDriverFeaturesSel, 0)
	d.write(regDriverFeatures, 0)
	d.works()
	if got := d.dev.driverFeatures; got != FeatureVersion1|FeatureEventIdx|1<<3 {
		t.Errorf("features %#x", got)
	}
}

// What a queue is made of does not change when it is ready, nor after DRIVER_OK.
func TestMMIOPhases(t *testing.T) {
	d := newDriver(t, &echo{})
	spoil := func(queue uint32) {
		d.write(regQueueSel, queue)
		for _, reg := range []uint64{regQueueSize, regDescLow, regDescHigh, regAvailLow, regAvailHigh, regUsedLow, regUsedHigh} {
			d.write(reg, 0xfffffff1)
		}
	}
	d.start(allFeatures)
	spoil(0)
	d.write(regQueueReady, 0)
	spoil(0)
	if s := d.dev.setup[0]; d.read(regQueueReady) != 1 || s.Size != 256 || s.Desc != d.queues[0].desc {
		t.Errorf("a running queue is now %+v", s)
	}
	d.write(regStatus, statusDriverOK) // bits are not taken back (§2.1.1)
	if got := d.read(regStatus); got != 15 {
		t.Errorf("status %#x", got)
	}
	d.works()
	d.dev.Pause()
	spoil(0)
	d.dev.Resume()
	d.works()

	d.negotiate(allFeatures)
	q := d.queues[0]
	q.lay(8)
	q.register()
	d.write(regQueueReady, 1)
	if d.read(regQueueReady) != 1 {
		t.Error("the queue is not ready")
	}
	spoil(0)
	if got, want := d.dev.setup[0], (QueueState{Size: 8, Desc: q.desc, Avail: q.avail, Used: q.used, Ready: true}); got != want {
		t.Errorf("a ready queue is now %+v, was %+v", got, want)
	}
	// Not ready any more, it changes.
	d.write(regQueueReady, 0)
	if d.read(regQueueReady) != 0 {
		t.Error("the queue is ready")
	}
	q.lay(16)
	q.register()
	d.write(regQueueReady, 1)
	d.write(RegQueueNotify, 0) // too early: it is seen when the device starts
	q.kicked = q.next
	d.write(regStatus, d.read(regStatus)|statusDriverOK)
	d.works()
	// The other one was not made.
	d.write(RegQueueNotify, 1)
	d.write(RegQueueNotify, 2)
	d.write(RegQueueNotify, ^uint32(0))
	d.works()

	// FAILED says that the driver has given up; it cannot go on from there.
	d.negotiate(allFeatures)
	d.write(regStatus, d.read(regStatus)|statusFailed)
	d.write(regStatus, d.read(regStatus)|statusDriverOK)
	if got := d.read(regStatus); got&statusDriverOK != 0 {
		t.Errorf("status %#x", got)
	}
	// The driver cannot say that the device needs a reset.
	d.reset()
	d.write(regStatus, 0xff)
	if got := d.read(regStatus); got&(statusNeedsReset|statusDriverOK|statusFeaturesOK) != 0 {
		t.Errorf("status %#x", got)
	}
	if len(d.faults) > 0 {
		t.Error(<-d.faults)
	}
}

// Requests that are in the ring before the device is started, or while it rests, are served without another kick.
func TestMMIOEarlyRequests(t *testing.T) {
	d := newDriver(t, &echo{})
	d.dev.Pause()
	d.start(allFeatures)
	q := d.queues[0]
	in, out := d.put([]byte("early")), d.room(5)
	q.add(false, in, out)
	d.dev.Resume()
	if _, n := q.wait(); n != 5 || string(d.bytes(out.at, 5)) != "early" {
		t.Errorf("%d bytes", n)
	}
	d.dev.Pause()
	d.dev.Pause()
	q.add(false, in, out)
	d.dev.Resume()
	d.dev.Resume()
	q.wait()
	d.works()
}

// A reset in the middle of the work leaves nothing of it.
func TestMMIOReset(t *testing.T) {
	d := newDriver(t, &echo{})
	for i := range 50 {
		d.start(allFeatures, 16)
		q := d.queues[0]
		in, out := d.put([]byte("\x03late")), d.room(5)
		for range i % 8 {
			q.add(false, in, out)
		}
		q.kick()
		d.reset()
		used := q.usedWord.Load()
		if got := d.read(regQueueReady) | d.read(regInterrupt) | d.read(regQueueSel); got != 0 {
			t.Fatalf("after a reset: %#x", got)
		}
		copy(d.bytes(out.at, 5), "clean")
		d.start(allFeatures, 16)
		d.works()
		if i%8 == 0 && used != 0 {
			t.Fatalf("used %#x", used)
		}
	}
}

// Accesses of other widths than four, or not aligned, do nothing and read as zero; the configuration space takes any.
func TestMMIOWidths(t *testing.T) {
	d := newDriver(t, &echo{})
	d.start(allFeatures)
	for _, n := range []int{0, 1, 2, 3, 5, 8, 16} {
		for off := uint64(0); off < regConfig; off++ {
			p := bytes.Repeat([]byte{0xee}, n)
			d.dev.Read(off, p)
			if !bytes.Equal(p, make([]byte, n)) {
				t.Fatalf("%d bytes at %#x: %x", n, off, p)
			}
			d.dev.Write(off, p)
		}
	}
	for off := uint64(0); off < regConfig; off++ {
		p := make([]byte, 4)
		if off%4 != 0 {
			d.dev.Write(off, p)
			if d.dev.Read(off, p); !bytes.Equal(p, make([]byte, 4)) {
				t.Fatalf("%#x: %x", off, p)
			}
		}
	}
	if d.read(regStatus) != 15 {
		t.Errorf("status %#x", d.read(regStatus))
	}
	space := []byte{0x44, 0x33, 0x22, 0x11}
	for off := range uint64(8) {
		for n := range 10 {
			p := bytes.Repeat([]byte{0xee}, n)
			d.dev.Read(regConfig+off, p)
			want := append(slices.Clone(space[min(off, 4):]), make([]byte, 16)...)[:n]
			if !bytes.Equal(p, want) {
				t.Errorf("%d bytes at %d: %x", n, off, p)
			}
		}
	}
	p := make([]byte, 8)
	d.dev.Read(^uint64(0), p)
	d.dev.Write(^uint64(0), p)
	d.works()
}

// The interrupt's reasons are told apart and taken back one by one.
func TestMMIOInterrupt(t *testing.T) {
	edges := 0
	mem, err := NewMemory(Region{0, make([]byte, 4096)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMMIO(&echo{}, mem, func() { edges++ }, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	read := func() uint32 {
		var p [4]byte
		m.Read(regInterrupt, p[:])
		return binary.LittleEndian.Uint32(p[:])
	}
	ack := func(v byte) { m.Write(regInterruptACK, []byte{v, 0, 0, 0}) }
	m.raise(interruptUsed)
	m.raise(interruptConfig)
	if read() != 3 || edges != 2 {
		t.Errorf("status %d, %d edges", read(), edges)
	}
	ack(interruptUsed)
	if read() != interruptConfig {
		t.Errorf("status %d", read())
	}
	ack(0xff)
	if read() != 0 || edges != 2 {
		t.Errorf("status %d, %d edges", read(), edges)
	}
}

// Close ends the device whatever it does, and a fault that comes too late is told to nobody.
func TestMMIOClose(t *testing.T) {
	e := &echo{}
	d := newDriver(t, e)
	d.start(allFeatures)
	d.works()
	d.dev.Close()
	d.dev.Close()
	d.dev.Resume()
	d.dev.mu.Lock()
	d.dev.failed(errors.New("too late"))
	d.dev.mu.Unlock()
	if e.run != nil || d.dev.broken || len(d.faults) > 0 {
		t.Error("the device runs, or failed, after Close")
	}
}
