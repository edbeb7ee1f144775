package virtio

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

const guestCID = 7

// vguest is a guest's sockets, which behave as Linux's do (net/vmw_vsock/virtio_transport_common.c), on a driver. Its buffers hold a page, as Linux's do.
type vguest struct {
	t      testing.TB
	d      *driver
	v      *Vsock
	events []buffer // for the event queue

	mu      sync.Mutex
	changed *sync.Cond
	conns   map[vsockPorts]*vconn
	listens map[uint32]bool
	opened  []*vconn      // by the host, not taken yet
	strays  []vsockHeader // packets for nobody
	port    uint32        // the last of its own
	out     []vpacket
	stopped bool
	noRX    bool // no receive buffers are given (back)
	done    sync.WaitGroup
	stop    chan struct{}
	kickTX  chan struct{}
	kickRX  chan struct{}
}

type vpacket struct {
	h       vsockHeader
	payload []byte
}

// vconn is a socket of the guest.
type vconn struct {
	g          *vguest
	ports      vsockPorts
	alloc      uint32
	connected  bool
	reset      bool
	shut       uint32 // of the host
	in         []byte
	got, taken uint32 // bytes received, and of those read
	told       uint32
	sent       uint32
	hostAlloc  uint32
	hostTaken  uint32
}

const (
	rxRoom      = 4096
	guestBuffer = 256 << 10 // af_vsock.c, VSOCK_DEFAULT_BUFFER_SIZE
)

// newGuest sets a device up with Linux's queues. More is done by the test.
func newGuest(t testing.TB, v *Vsock) *vguest {
	g := &vguest{
		t: t, d: newDriver(t, v), v: v, conns: map[vsockPorts]*vconn{}, listens: map[uint32]bool{}, port: 1 << 20,
		stop: make(chan struct{}), kickTX: make(chan struct{}, 1), kickRX: make(chan struct{}, 1),
	}
	g.changed = sync.NewCond(&g.mu)
	t.Cleanup(v.Close)
	t.Cleanup(g.halt)
	return g
}

// start is the driver's probe.
func (g *vguest) start() {
	g.t.Helper()
	g.d.start(allFeatures)
	rooms := func(n uint16, size int) (b []buffer) {
		for range n {
			b = append(b, g.d.room(size))
		}
		return b
	}
	// RAM is taken now: later it is the transmit goroutine's.
	g.events = rooms(4, 8)
	rx, tx := rooms(g.d.queues[vsockRX].size, rxRoom), rooms(32, vsockHeaderSize+vsockQuantum)
	g.done.Go(func() { g.receive(rx) })
	g.done.Go(func() { g.transmit(tx) })
}

// halt ends the driver's goroutines; the device goes on.
func (g *vguest) halt() {
	g.mu.Lock()
	if !g.stopped {
		g.stopped = true
		close(g.stop)
	}
	g.changed.Broadcast()
	g.mu.Unlock()
	g.done.Wait()
}

// receive owns the receive queue.
func (g *vguest) receive(idle []buffer) {
	q := g.d.queues[vsockRX]
	at := map[uint16]buffer{}
	for {
		g.mu.Lock()
		give := !g.noRX
		g.mu.Unlock()
		for give && len(idle) > 0 {
			head, _ := q.add(false, idle[0])
			at[head] = idle[0]
			idle = idle[1:]
		}
		q.kick()
		for {
			head, n, ok := q.get()
			if !ok {
				break
			}
			b := append([]byte(nil), g.d.bytes(at[head].at, int(n))...)
			idle = append(idle, at[head])
			if len(b) < vsockHeaderSize {
				g.t.Errorf("a packet of %d bytes", len(b))
				continue
			}
			h := parseVsock((*[vsockHeaderSize]byte)(b))
			g.mu.Lock()
			g.arrived(h, b[vsockHeaderSize:])
			g.changed.Broadcast()
			g.mu.Unlock()
		}
		if give && len(idle) > 0 {
			continue
		}
		if !g.rest(q, g.kickRX) {
			return
		}
	}
}

// rest waits for an interrupt or for ours.
func (g *vguest) rest(q *driverQueue, ours chan struct{}) bool {
	if q.d.features&FeatureEventIdx != 0 {
		q.setUsedEvent(q.lastUsed)
	}
	q.availWord.Store(q.availWord.Load()) // the store before the load
	if uint16(q.usedWord.Load()>>16) != q.lastUsed {
		return true
	}
	select {
	case <-q.interrupt:
	case <-ours:
	case <-g.stop:
		return false
	}
	return true
}

// transmit owns the transmit queue.
func (g *vguest) transmit(idle []buffer) {
	q := g.d.queues[vsockTX]
	at := map[uint16]buffer{}
	for {
		for head, _, ok := q.get(); ok; head, _, ok = q.get() {
			idle = append(idle, at[head])
		}
		g.mu.Lock()
		for len(g.out) > 0 && len(idle) > 0 {
			p := g.out[0]
			g.out = g.out[1:]
			b := idle[0]
			idle = idle[1:]
			raw := p.h.bytes()
			mem := g.d.bytes(b.at, int(b.n))
			copy(mem, raw[:])
			copy(mem[vsockHeaderSize:], p.payload)
			parts := []buffer{{at: b.at, n: vsockHeaderSize}}
			if len(p.payload) > 0 {
				parts = append(parts, buffer{at: b.at + vsockHeaderSize, n: uint32(len(p.payload))})
			}
			head, ok := q.add(len(p.payload) > 100, parts...)
			if !ok {
				g.t.Error("the transmit queue is full")
			}
			at[head] = b
		}
		g.mu.Unlock()
		q.kick()
		if !g.rest(q, g.kickTX) {
			return
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push queues a packet for transmit. g.mu is held.
func (g *vguest) push(h vsockHeader, payload []byte) {
	h.length = uint32(len(payload))
	g.out = append(g.out, vpacket{h, payload})
	poke(g.kickTX)
}

// send sends a packet as it is.
func (g *vguest) send(h vsockHeader, payload []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	length := h.length
	g.push(h, payload)
	if length != 0 {
		g.out[len(g.out)-1].h.length = length
	}
}

// header is a packet's of the guest.
func (g *vguest) header(ports vsockPorts, op uint16) vsockHeader {
	return vsockHeader{
		srcCID: guestCID, dstCID: hostCID, srcPort: ports.guest, dstPort: ports.host, kind: vsockTypeStream, op: op, bufAlloc: guestBuffer,
	}
}

func (c *vconn) header(op uint16) vsockHeader {
	h := c.g.header(c.ports, op)
	h.bufAlloc, h.fwdCnt = c.alloc, c.taken
	c.told = c.taken
	return h
}

// arrived serves a packet of the host.
func (g *vguest) arrived(h vsockHeader, payload []byte) {
	if h.srcCID != hostCID && h.op != opReset || h.dstCID != guestCID || int(h.length) != len(payload) {
		g.t.Errorf("packet %+v with %d bytes", h, len(payload))
		return
	}
	ports := vsockPorts{host: h.srcPort, guest: h.dstPort}
	c := g.conns[ports]
	if c == nil && h.op == opRequest && g.listens[ports.guest] {
		c = &vconn{g: g, ports: ports, alloc: guestBuffer, connected: true}
		g.conns[ports] = c
		g.opened = append(g.opened, c)
		g.push(c.header(opResponse), nil)
	}
	if c == nil || h.srcCID != hostCID || h.kind != vsockTypeStream {
		g.strays = append(g.strays, h)
		if h.op == opRequest {
			g.push(g.header(ports, opReset), nil)
		}
		return
	}
	c.hostAlloc, c.hostTaken = h.bufAlloc, h.fwdCnt
	switch h.op {
	case opRequest:
	case opResponse:
		c.connected = true
	case opData:
		if uint32(len(c.in))+h.length > c.alloc {
			g.t.Errorf("the host sent %d bytes beyond the credit", uint32(len(c.in))+h.length-c.alloc)
		}
		c.in = append(c.in, payload...)
		c.got += h.length
	case opShutdown:
		c.shut |= h.flags
		c.maybeGone()
	case opCreditRequest:
		g.push(c.header(opCreditUpdate), nil)
	case opCreditUpdate:
	case opReset:
		c.reset = true
		delete(g.conns, ports)
	default:
		g.t.Errorf("operation %d", h.op)
	}
}

// maybeGone answers the host's close once all is read.
func (c *vconn) maybeGone() {
	if c.shut == shutBoth && len(c.in) == 0 && !c.reset {
		c.reset = true
		delete(c.g.conns, c.ports)
		c.g.push(c.header(opReset), nil)
	}
}

// await waits until cond is true. g.mu is held.
func (g *vguest) await(what string, cond func() bool) bool {
	late := false
	timer := time.AfterFunc(waitTime, func() {
		g.mu.Lock()
		late = true
		g.changed.Broadcast()
		g.mu.Unlock()
	})
	defer timer.Stop()
	for !cond() && !late {
		g.changed.Wait()
	}
	if !cond() {
		g.t.Errorf("waited in vain for %s", what)
		return false
	}
	return true
}

// dial connects to a port of the host.
func (g *vguest) dial(port uint32) (*vconn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.port++
	c := &vconn{g: g, ports: vsockPorts{port, g.port}, alloc: guestBuffer}
	g.conns[c.ports] = c
	g.push(c.header(opRequest), nil)
	g.await("an answer", func() bool { return c.connected || c.reset })
	if c.reset || !c.connected {
		return nil, ErrRefused
	}
	return c, nil
}

// take is the next stream that the host opened.
func (g *vguest) take() *vconn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.await("a stream of the host", func() bool { return len(g.opened) > 0 }) {
		return nil
	}
	c := g.opened[0]
	g.opened = g.opened[1:]
	return c
}

// stray is the next packet that belongs to no socket.
func (g *vguest) stray() vsockHeader {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.await("a packet", func() bool { return len(g.strays) > 0 }) {
		return vsockHeader{}
	}
	h := g.strays[0]
	g.strays = g.strays[1:]
	return h
}

var errGuestPipe = errors.New("guest: broken pipe")

func (c *vconn) Write(p []byte) (int, error) {
	g, total := c.g, 0
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(p) > 0 {
		credit := func() int { return int(c.hostAlloc - (c.sent - c.hostTaken)) }
		if !g.await("credit", func() bool { return c.reset || c.shut&shutReceive != 0 || credit() > 0 }) || c.reset || c.shut&shutReceive != 0 {
			return total, errGuestPipe
		}
		n := min(len(p), credit(), vsockQuantum)
		g.push(c.header(opData), append([]byte(nil), p[:n]...))
		c.sent += uint32(n)
		total += n
		p = p[n:]
	}
	return total, nil
}

func (c *vconn) Read(p []byte) (int, error) {
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.await("data", func() bool { return len(c.in) > 0 || c.reset || c.shut&shutSend != 0 }) {
		return 0, errors.New("guest: nothing came")
	}
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	c.taken += uint32(n)
	// virtio_transport_stream_do_dequeue: when the host may believe that there is less than a packet's room.
	if c.alloc-(c.got-c.told) < vsockQuantum && !c.reset {
		g.push(c.header(opCreditUpdate), nil)
	}
	c.maybeGone()
	return n, nil
}

// shutdown sends flags; with both it is close(2), which waits for the answer.
func (c *vconn) shutdown(flags uint32) {
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.reset {
		return
	}
	h := c.header(opShutdown)
	h.flags = flags
	g.push(h, nil)
	if flags == shutBoth {
		g.await("the answer to a close", func() bool { return c.reset })
	}
}

// settle waits until the host's end has left n streams.
func (g *vguest) settle(n int) {
	g.t.Helper()
	var now [2]int
	for deadline := time.Now().Add(waitTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		g.v.mu.Lock()
		now = [2]int{g.v.dialed + g.v.taken, len(g.v.sockets)}
		g.v.mu.Unlock()
		if now[0] == n {
			return
		}
	}
	g.t.Errorf("the device holds %d streams with %d sockets, not %d", now[0], now[1], n)
}

// hostEnd turns the host's end into a connection.
func hostEnd(t testing.TB, far *os.File) *net.UnixConn {
	t.Helper()
	c, err := net.FileConn(far)
	far.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c.(*net.UnixConn)
}

type dialed struct {
	far *os.File
	err error
}

// dialGuest starts a dial.
func dialGuest(v *Vsock, port uint32) (<-chan dialed, func()) {
	done := make(chan dialed, 2) // room for a second call, which would be a fault
	return done, v.Dial(port, func(far *os.File, err error) { done <- dialed{far, err} })
}

func within[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(waitTime):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}
