package virtio

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzVsockPacket(f *testing.F) {
	h := vsockHeader{7, 2, 1024, 1025, 3, 1, 5, 0, 1 << 18, 9}
	b := h.bytes()
	f.Add(b[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < vsockHeaderSize {
			return
		}
		raw := (*[vsockHeaderSize]byte)(b)
		h := parseVsock(raw)
		if h.bytes() != *raw {
			t.Errorf("%x became %x", *raw, h.bytes())
		}
		if r := h.refusal(); r.refusal().srcCID != h.srcCID || r.op != opReset || r.dstPort != h.srcPort || r.length != 0 {
			t.Errorf("refusal %+v of %+v", r, h)
		}
	})
}

// FuzzVsock lets the bytes say what guest and host do, and looks after each step whether what the guest costs is bounded still.
func FuzzVsock(f *testing.F) {
	const open = "\x00\x01\x01\x00\x00\x08" + "\x02\x01" // a request, and it is accepted
	f.Add([]byte("\x08\x10" + open + "\x00\x01\x05\x00\x40\x08" + "\x05\x00" + "\x03\xff" + "\x09" + "\x04\x00"))
	f.Add([]byte("\x08\x10\x06\x03\x09\x00\x13\x02\x00\x00\x08\x00\x13\x05\x00\xff\x08\x00\x13\x04\x03\x00\x08"))
	f.Add([]byte(open + "\x00\x01\x05\x00\xff\x08\x00\x01\x05\x00\xff\x08\x00\x01\x04\x03\x00\x08\x0a\x0b\x08\x20\x09"))
	f.Add([]byte("\x06\x01\x07\x08\x05" + open + "\x00\x01\x04\x01\x00\x08\x03\x10\x04\x00\x09"))
	f.Add(append([]byte{1}, make([]byte, vsockHeaderSize)...))
	f.Add([]byte("\x0c\x00\x03\x00\x10\x40\x00\x00\x00\x01\x00\x00\x20\x00\x10\x00\x00\x01\x02"))
	f.Fuzz(func(t *testing.T, script []byte) { newVsockScript(t).run(script) })
}

type vsockScript struct {
	t       *testing.T
	v       *Vsock
	d       *driver
	asked   []func(bool)
	far     []*os.File
	cancels []func()
	out, in buffer
	event   buffer
}

func newVsockScript(t *testing.T) *vsockScript {
	x := &vsockScript{t: t}
	x.v = NewVsock(VsockConfig{CID: guestCID, Request: func(_ uint32, far *os.File, decide func(bool)) {
		// Called from step below, or by the worker; both hold nothing.
		x.asked = append(x.asked, decide)
		x.hold(far)
	}})
	x.d = newDriver(t, x.v)
	x.d.start(allFeatures, 16)
	x.out, x.in, x.event = x.d.room(vsockHeaderSize+vsockQuantum), x.d.room(rxRoom), x.d.room(8)
	t.Cleanup(func() {
		for _, f := range x.far {
			f.Close()
		}
	})
	// The script is the only worker.
	x.v.mu.Lock()
	defer x.v.mu.Unlock()
	x.v.run.stop = true
	x.v.run.wake.signal()
	return x
}

func (x *vsockScript) hold(far *os.File) {
	unix.SetNonblock(int(far.Fd()), true)
	x.far = append(x.far, far)
}

func (x *vsockScript) run(script []byte) {
	v := x.v
	<-v.run.stopped
	take := func() byte {
		if len(script) == 0 {
			return 0
		}
		b := script[0]
		script = script[1:]
		return b
	}
	pick := func(n int) int { return int(take()) % max(n, 1) }
	for n := 0; len(script) > 0 && n < 300 && len(x.d.faults) == 0; n++ {
		switch take() % 13 {
		case 0: // a packet that makes some sense
			ports := take()
			h := vsockHeader{
				srcCID: guestCID, dstCID: hostCID, srcPort: uint32(ports >> 4), dstPort: uint32(ports & 15),
				kind: vsockTypeStream, op: uint16(take()), flags: uint32(take()), length: uint32(take()) << 8,
			}
			h.bufAlloc = uint32(take()) << 8
			if h.srcPort != 0 { // one that answers a dial
				h.dstPort += firstVsockPort
			}
			x.send(h)
		case 1: // one that need not
			var raw [vsockHeaderSize]byte
			script = script[copy(raw[:], script):]
			x.send(parseVsock(&raw))
		case 2:
			if len(x.asked) > 0 {
				x.asked[0](take()%2 == 1)
				x.asked = x.asked[1:]
			}
		case 3:
			if len(x.far) > 0 {
				unix.Write(int(x.far[0].Fd()), make([]byte, int(take())<<8))
			}
		case 4:
			if i := pick(len(x.far)); i < len(x.far) {
				x.far[i].Close()
				x.far = append(x.far[:i], x.far[i+1:]...)
			}
		case 5:
			if i := pick(len(x.far)); i < len(x.far) {
				unix.Read(int(x.far[i].Fd()), make([]byte, 64<<10))
			}
		case 6:
			x.cancels = append(x.cancels, v.Dial(uint32(take()), func(far *os.File, err error) {
				if (far == nil) == (err == nil) {
					x.t.Errorf("dial: %v, %v", far, err)
				}
				if far != nil {
					far.Close()
				}
			}))
		case 7:
			if len(x.cancels) > 0 {
				x.cancels[0]()
				x.cancels = x.cancels[1:]
			}
		case 8: // receive buffers
			for range take() % 17 {
				x.d.queues[vsockRX].add(false, x.in)
			}
		case 9:
			for ok := true; ok; {
				_, _, ok = x.d.queues[vsockRX].get()
			}
		case 10:
			v.TransportReset()
		case 11:
			x.d.queues[vsockEvents].add(false, x.event)
		case 12: // any ring
			q := x.d.queues[pick(3)]
			q.fuzz(uint16(take()), script)
			x.step()
			return
		}
		x.step()
		// What was sent is taken back.
		for ok := true; ok; {
			_, _, ok = x.d.queues[vsockTX].get()
		}
	}
}

func (x *vsockScript) send(h vsockHeader) {
	raw := h.bytes()
	copy(x.d.bytes(x.out.at, len(raw)), raw[:])
	q := x.d.queues[vsockTX]
	q.add(false, buffer{at: x.out.at, n: vsockHeaderSize}, buffer{at: x.out.at + vsockHeaderSize, n: x.out.n - vsockHeaderSize})
}

// step is what the worker does when it wakes up.
func (x *vsockScript) step() {
	v := x.v
	var events [64]unix.EpollEvent
	n, _ := unix.EpollWait(v.run.epoll, events[:], 0)
	v.mu.Lock()
	for _, e := range events[:max(n, 0)] {
		v.run.happened(uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32, e.Events)
	}
	for again, n := true, 0; again; n++ {
		var err error
		if again, err = v.run.step(); err != nil {
			again = false
			if !errors.Is(err, ErrRing) {
				x.t.Error(err)
			}
		}
		if n > 100 {
			x.t.Error("the device does not come to rest")
			break
		}
	}
	x.check()
	calls := v.calls
	v.calls = nil
	v.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

// check holds the device to its bounds. v.mu is held.
func (x *vsockScript) check() {
	v, t := x.v, x.t
	if len(v.refusals) > maxRefusals+2*maxVsockStreams {
		t.Errorf("%d answers wait", len(v.refusals))
	}
	all := map[*vsockStream]bool{}
	for ports, s := range v.streams {
		all[s] = true
		if s.ports != ports || s.state >= vsockFlushing {
			t.Errorf("%+v at %v", s, ports)
		}
	}
	for id, s := range v.sockets {
		all[s] = true
		if s.id != id || s.fd < 0 || s.state == vsockGone {
			t.Errorf("%+v at %d", s, id)
		}
	}
	listed, classes := 0, 0
	for _, n := range v.classes {
		classes += n
	}
	for s := range all {
		if s.buffer.len > int(s.alloc) || s.received-s.forwarded != uint32(s.buffer.len) {
			t.Errorf("%d bytes in a buffer of %d; received %d, forwarded %d", s.buffer.len, s.alloc, s.received, s.forwarded)
		}
		if s.listed {
			listed++
		}
	}
	if len(all) != v.dialed+v.taken || len(all) != classes || listed != len(v.turn) {
		t.Errorf("%d streams counted as %d and %d; %d turns of %d", len(all), v.dialed, v.taken, len(v.turn), listed)
	}
	binary.LittleEndian.PutUint64(x.d.bytes(x.out.at, 8), 0) // the guest changes its mind
}
