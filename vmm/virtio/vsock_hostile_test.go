package virtio

import (
	"errors"
	"io"
	"os"
	"testing"
)

// Packets that no correct driver sends, on a stream that is open or on none.
func TestVsockHostilePackets(t *testing.T) {
	const (
		reset   = iota // the stream ends, and the guest is told by a reset
		refused        // a reset comes, and the stream goes on
		ignored        // nothing comes, and the stream goes on
	)
	edit := func(f func(h *vsockHeader)) func(vsockHeader) vsockHeader {
		return func(h vsockHeader) vsockHeader { f(&h); return h }
	}
	tests := []struct {
		name    string
		packet  func(vsockHeader) vsockHeader // of a packet of data on the stream
		payload int
		want    int
	}{
		{"unknown operation", edit(func(h *vsockHeader) { h.op = 8 }), 0, reset},
		{"operation 0", edit(func(h *vsockHeader) { h.op = 0 }), 0, reset},
		{"operation 0xffff", edit(func(h *vsockHeader) { h.op = 0xffff }), 0, reset},
		{"request for a stream that exists", edit(func(h *vsockHeader) { h.op = opRequest }), 0, reset},
		{"response that nobody waits for", edit(func(h *vsockHeader) { h.op = opResponse }), 0, reset},
		{"length beyond the packet", edit(func(h *vsockHeader) { h.length = 11 }), 10, reset},
		{"length beyond all memory", edit(func(h *vsockHeader) { h.length = 0xffffffff }), 10, reset},
		{"no more credit than nothing", edit(func(h *vsockHeader) { h.op = opCreditUpdate; h.bufAlloc = 0 }), 0, ignored},
		{"more taken than was sent", edit(func(h *vsockHeader) { h.op = opCreditUpdate; h.fwdCnt = 1 << 31 }), 0, ignored},
		{"unknown flags of a shutdown", edit(func(h *vsockHeader) { h.op = opShutdown; h.flags = 0xfffffffc }), 0, ignored},
		{"no data", edit(func(h *vsockHeader) {}), 0, ignored},
		{"another type", edit(func(h *vsockHeader) { h.kind = 2 }), 0, refused},
		{"another type's request", edit(func(h *vsockHeader) { h.kind = 0; h.op = opRequest; h.dstPort = 77 }), 0, refused},
		{"another guest's address", edit(func(h *vsockHeader) { h.srcCID = guestCID + 1; h.op = opReset }), 0, ignored},
		{"the host's address", edit(func(h *vsockHeader) { h.srcCID = hostCID; h.op = opReset }), 0, ignored},
		{"an address of 64 bits", edit(func(h *vsockHeader) { h.srcCID |= 1 << 32; h.op = opReset }), 0, ignored},
		{"to another guest", edit(func(h *vsockHeader) { h.dstCID = guestCID + 1 }), 0, refused},
		{"a request to another guest", edit(func(h *vsockHeader) { h.dstCID, h.op = guestCID+1, opRequest }), 0, refused},
		{"to itself", edit(func(h *vsockHeader) { h.dstCID = guestCID }), 0, refused},
		{"to the hypervisor", edit(func(h *vsockHeader) { h.dstCID = 0 }), 0, refused},
		{"to anyone", edit(func(h *vsockHeader) { h.dstCID = 0xffffffff }), 0, refused},
		{"to the host, in 64 bits", edit(func(h *vsockHeader) { h.dstCID |= 1 << 32 }), 0, refused},
		{"data for no stream", edit(func(h *vsockHeader) { h.dstPort = 77 }), 10, refused},
		{"shutdown of no stream", edit(func(h *vsockHeader) { h.dstPort, h.op = 77, opShutdown }), 0, refused},
		{"reset of no stream", edit(func(h *vsockHeader) { h.dstPort, h.op = 77, opReset }), 0, ignored},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, requests := listening()
			g := newGuest(t, v)
			g.start()
			c, far := vsockPair(t, g, requests)
			h := test.packet(c.header(opData))
			g.send(h, make([]byte, test.payload))
			// What comes next shows that the packet was served.
			marker := g.header(vsockPorts{99, 99}, opData)
			g.send(marker, nil)
			p := g.stray()
			if test.want == refused {
				if p != h.refusal() {
					t.Errorf("answer %+v to %+v", p, h)
				}
				p = g.stray()
			}
			if p != marker.refusal() {
				t.Errorf("unexpected packet %+v", p)
			}
			g.mu.Lock()
			gone := c.reset
			g.mu.Unlock()
			if gone != (test.want == reset) {
				t.Errorf("stream reset: %v", gone)
			}
			if test.want == reset {
				if _, err := io.ReadAll(far); err != nil {
					t.Error(err)
				}
				g.settle(0)
			} else {
				g.settle(1)
				c.Write([]byte("x"))
				if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			if len(requests) != 0 {
				t.Error("the host was asked")
			}
		})
	}
}

// A guest that sends more than it may loses the stream, and the host has kept no more than it has granted.
func TestVsockCreditOverrun(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	c, far := vsockPair(t, g, requests)
	sent := 0
	for gone := false; !gone; {
		g.send(c.header(opData), make([]byte, 32<<10))
		if sent += 32 << 10; sent > 100<<20 {
			t.Fatal("a guest without credit was heard")
		}
		marker := g.header(vsockPorts{99, 99}, opData)
		g.send(marker, nil)
		if p := g.stray(); p != marker.refusal() {
			t.Fatalf("%+v", p)
		}
		v.mu.Lock()
		for _, s := range v.streams {
			if s.buffer.len > 1<<20 || len(s.buffer.bytes) > 1<<20 {
				t.Errorf("%d bytes in a buffer of %d", s.buffer.len, len(s.buffer.bytes))
			}
		}
		v.mu.Unlock()
		g.mu.Lock()
		gone = c.reset
		g.mu.Unlock()
	}
	if b, err := io.ReadAll(far); err != nil || len(b) > sent {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	g.settle(0)
}

func TestVsockStreamLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 4096 streams")
	}
	requests := make(chan asked, 2*maxVsockStreams)
	v := NewVsock(VsockConfig{CID: guestCID, Request: func(port uint32, far *os.File, decide func(bool)) {
		decide(true)
		requests <- asked{port, far, decide}
	}})
	g := newGuest(t, v)
	g.start()
	var conns []*vconn
	for range maxVsockStreams {
		c, err := g.dial(1)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if _, err := g.dial(1); !errors.Is(err, ErrRefused) {
		t.Errorf("one more: %v", err)
	}
	// The host's own do not count.
	g.listens[1] = true
	done, _ := dialGuest(v, 1)
	own := within(t, done)
	if own.err != nil {
		t.Error(own.err)
	}
	total := uint32(0)
	for _, s := range v.streams {
		total += s.alloc
	}
	if total > 112<<20 {
		t.Errorf("the guest may have %d bytes kept", total)
	}
	conns[0].shutdown(shutBoth)
	if _, err := g.dial(1); err != nil {
		t.Errorf("in the place of one: %v", err)
	}
	close(requests)
	for r := range requests {
		r.far.Close()
	}
	own.far.Close()
	g.settle(0)
}

// Answers that the guest does not take do not heap up.
func TestVsockSilentGuest(t *testing.T) {
	v, _ := listening()
	g := newGuest(t, v)
	g.noRX = true
	g.start()
	const n = 10_000
	for i := range n {
		g.send(g.header(vsockPorts{host: uint32(i), guest: 1}, opData), nil)
	}
	held := func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return len(v.refusals)
	}
	for held() < maxRefusals {
		if t.Failed() {
			return
		}
	}
	g.d.dev.Pause() // ends what the worker is at
	g.d.dev.Resume()
	if held() != maxRefusals {
		t.Errorf("%d answers wait", held())
	}
	g.mu.Lock()
	g.noRX = false
	g.mu.Unlock()
	poke(g.kickRX)
	for i := range n {
		if p := g.stray(); p.op != opReset || p.srcPort != uint32(i) {
			t.Fatalf("answer %d: %+v", i, p)
		}
	}
}

// Buffers without room for a packet, and rings that are none, stop the device, and the streams with it.
func TestVsockHostileRings(t *testing.T) {
	tests := []struct {
		name   string
		damage func(g *vguest)
	}{
		{"a receive buffer for a header only", func(g *vguest) {
			q := g.d.queues[vsockRX]
			q.add(false, buffer{at: g.events[0].at, n: vsockHeaderSize, write: true})
			q.notify()
		}},
		{"a receive buffer to read from", func(g *vguest) {
			q := g.d.queues[vsockRX]
			q.add(false, buffer{at: g.events[0].at, n: 4096})
			q.notify()
		}},
		{"a packet outside of memory", func(g *vguest) {
			q := g.d.queues[vsockTX]
			q.add(false, buffer{at: 1 << 60, n: 44})
			q.notify()
		}},
		{"more packets than the ring has", func(g *vguest) {
			q := g.d.queues[vsockTX]
			q.publish(q.next + q.size + 1)
			q.notify()
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, requests := listening()
			g := newGuest(t, v)
			g.noRX = true
			g.start()
			g.send(g.header(vsockPorts{1, 1}, opRequest), nil)
			r := within(t, requests)
			far := hostEnd(t, r.far)
			r.decide(true)
			g.halt()
			test.damage(g)
			if err := g.d.fault(); !errors.Is(err, ErrRing) {
				t.Error(err)
			}
			if b, err := io.ReadAll(far); err != nil || len(b) > 0 {
				t.Errorf("%q, %v", b, err)
			}
			g.settle(0)
		})
	}
}

// A packet of less than a header is nobody's, wherever its bytes lie.
func TestVsockShortPacket(t *testing.T) {
	v, _ := listening()
	d := newDriver(t, v)
	d.start(allFeatures)
	d.queues[vsockTX].do(make([]byte, vsockHeaderSize-1), 0)
	d.queues[vsockTX].do(nil, 100)
	if len(v.refusals) > 0 {
		t.Error("it was answered")
	}
}
