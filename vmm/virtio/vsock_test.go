package virtio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
)

type asked struct {
	port   uint32
	far    *os.File
	decide func(bool)
}

// listening makes a device whose requests come by a channel.
func listening() (*Vsock, chan asked) {
	requests := make(chan asked, 2*maxVsockStreams)
	return NewVsock(VsockConfig{CID: guestCID, Request: func(port uint32, far *os.File, decide func(bool)) {
		requests <- asked{port, far, decide}
	}}), requests
}

// pair is one stream that the guest opened, its guest's and its host's end.
func vsockPair(t *testing.T, g *vguest, requests chan asked) (*vconn, *net.UnixConn) {
	t.Helper()
	conns := make(chan *vconn, 1)
	go func() {
		c, err := g.dial(1025)
		if err != nil {
			t.Error(err)
		}
		conns <- c
	}()
	r := within(t, requests)
	if r.port != 1025 {
		t.Errorf("port %d", r.port)
	}
	r.decide(true)
	c := within(t, conns)
	if c == nil {
		t.FailNow()
	}
	return c, hostEnd(t, r.far)
}

// transfer sends n random bytes and compares what arrives.
func transfer(t *testing.T, w io.Writer, end func(), r io.Reader, n int) {
	t.Helper()
	var wg sync.WaitGroup
	sent := sha256.New()
	wg.Go(func() {
		random := rand.NewChaCha8([32]byte{byte(n)})
		buf := make([]byte, 100_000)
		for left := n; left > 0; {
			b := buf[:min(left, 1+int(random.Uint64()%uint64(len(buf))))]
			random.Read(b)
			sent.Write(b)
			if _, err := w.Write(b); err != nil {
				t.Error(err)
				return
			}
			left -= len(b)
		}
		end()
	})
	got := sha256.New()
	m, err := io.CopyBuffer(struct{ io.Writer }{got}, struct{ io.Reader }{r}, make([]byte, 50_000))
	wg.Wait()
	if err != nil || m != int64(n) || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Errorf("%d of %d bytes arrived, %v; or they differ", m, n, err)
	}
}

const bulk = 20_000_000

func TestVsockIdentity(t *testing.T) {
	v, _ := listening()
	g := newGuest(t, v)
	if id := g.d.read(regDeviceID); id != typeVsock {
		t.Errorf("device %d", id)
	}
	if cid := g.d.readConfig(0, 12); !bytes.Equal(cid, []byte{guestCID, 11: 0}) {
		t.Errorf("configuration %x", cid)
	}
}

func TestVsockBothWays(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	c, h := vsockPair(t, g, requests)
	var wg sync.WaitGroup
	wg.Go(func() { transfer(t, c, func() { c.shutdown(shutSend) }, h, bulk) })
	wg.Go(func() { transfer(t, h, func() { h.CloseWrite() }, c, bulk+1) })
	wg.Wait()
	h.Close()
	g.settle(0)
}

func TestVsockHostDials(t *testing.T) {
	v, _ := listening()
	g := newGuest(t, v)
	g.listens[5000] = true
	early, _ := dialGuest(v, 5000) // before there is a driver
	g.start()
	d := within(t, early)
	if d.err != nil {
		t.Fatal(d.err)
	}
	h, c := hostEnd(t, d.far), g.take()
	transfer(t, h, func() { h.CloseWrite() }, c, bulk)
	transfer(t, c, func() { c.shutdown(shutSend) }, h, bulk)
	c.shutdown(shutBoth)
	g.settle(0)

	refused, _ := dialGuest(v, 5001)
	if d := within(t, refused); !errors.Is(d.err, ErrRefused) || d.far != nil {
		t.Errorf("%+v", d)
	}
	// Port numbers are not used again.
	seen := map[uint32]bool{c.ports.host: true}
	for range 20 {
		done, _ := dialGuest(v, 5000)
		within(t, done).far.Close()
		p := g.take().ports
		if seen[p.host] {
			t.Errorf("port %d again", p.host)
		}
		seen[p.host] = true
	}
	g.settle(0)
}

func TestVsockCancel(t *testing.T) {
	v, _ := listening()
	g := newGuest(t, v)
	g.listens[5000] = true
	waits, cancel := dialGuest(v, 5000) // no driver yet
	cancel()
	if d := within(t, waits); !errors.Is(d.err, context.Canceled) {
		t.Errorf("%+v", d)
	}
	// The guest gets the request and does not answer; then it is told.
	g.d.start(allFeatures)
	rx := g.d.queues[vsockRX]
	receive := func() vsockHeader {
		b := rx.do(nil, rxRoom)
		if len(b) != vsockHeaderSize {
			t.Fatalf("%x", b)
		}
		return parseVsock((*[vsockHeaderSize]byte)(b))
	}
	waits, cancel = dialGuest(v, 5000)
	if h := receive(); h.op != opRequest || h.dstPort != 5000 || int(h.bufAlloc) != vsockBuffers[0].size {
		t.Errorf("%+v", h)
	}
	cancel()
	cancel()
	if d := within(t, waits); !errors.Is(d.err, context.Canceled) {
		t.Errorf("%+v", d)
	}
	if h := receive(); h.op != opReset || h.dstPort != 5000 {
		t.Errorf("%+v", h)
	}
	g.settle(0)
	if len(waits) > 0 {
		t.Error("told twice")
	}
}

func TestVsockRefuses(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	go func() { r := within(t, requests); r.far.Close(); r.decide(false) }()
	if _, err := g.dial(1026); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	g.settle(0)
}

// What is written before the decision comes after it.
func TestVsockLateDecision(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	go func() {
		r := within(t, requests)
		r.far.WriteString("early")
		r.far.Close()
		g.d.dev.Pause()
		r.decide(true)
		g.d.dev.Resume()
	}()
	c, err := g.dial(1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "early" {
		t.Errorf("%q, %v", b, err)
	}
	g.settle(0)
}

func TestVsockHalfClose(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	t.Run("by the guest", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		c.Write([]byte("question"))
		c.shutdown(shutSend)
		if b, err := io.ReadAll(h); err != nil || string(b) != "question" {
			t.Errorf("%q, %v", b, err)
		}
		h.Write([]byte("answer"))
		h.Close()
		if b, err := io.ReadAll(c); err != nil || string(b) != "answer" {
			t.Errorf("%q, %v", b, err)
		}
		g.settle(0)
	})
	t.Run("by the host", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		h.Write([]byte("question"))
		h.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "question" {
			t.Errorf("%q, %v", b, err)
		}
		c.Write([]byte("answer"))
		c.shutdown(shutBoth)
		if b, err := io.ReadAll(h); err != nil || string(b) != "answer" {
			t.Errorf("%q, %v", b, err)
		}
		g.settle(0)
	})
	t.Run("for reading, by the guest", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		c.shutdown(shutReceive)
		var err error
		for err == nil {
			_, err = h.Write([]byte("x"))
		}
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%v", err)
		}
		c.Write([]byte("still"))
		c.shutdown(shutSend)
		if b, err := io.ReadAll(h); err != nil || string(b) != "still" {
			t.Errorf("%q, %v", b, err)
		}
		g.settle(0)
	})
	t.Run("for reading, by the host", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		h.CloseRead()
		var err error
		for err == nil {
			_, err = c.Write([]byte("x"))
		}
		h.Write([]byte("still"))
		h.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "still" {
			t.Errorf("%q, %v", b, err)
		}
		h.Close()
		g.settle(0)
	})
}

func TestVsockClose(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	t.Run("by the guest, with bytes that the host reads later", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 28_000) // more than the socket takes, less than it and the credit
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		c.shutdown(shutBoth)
		if b, err := io.ReadAll(h); err != nil || !bytes.Equal(b, sent) {
			t.Errorf("%d of %d bytes, %v", len(b), len(sent), err)
		}
		g.settle(0)
	})
	t.Run("by the host, with bytes that the guest reads later", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // more than the credit
		if _, err := h.Write(sent); err != nil {
			t.Fatal(err)
		}
		h.Close()
		g.mu.Lock() // it is told at once that nobody listens any more
		g.await("half of the end", func() bool { return c.shut == shutReceive })
		g.mu.Unlock()
		if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, sent) {
			t.Errorf("%d of %d bytes, %v", len(b), len(sent), err)
		}
		g.settle(0)
	})
	t.Run("by the host, while the guest writes", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		failed := make(chan error)
		go func() {
			for {
				if _, err := c.Write(make([]byte, 10_000)); err != nil {
					failed <- err
					return
				}
			}
		}()
		io.ReadFull(h, make([]byte, 1_000_000))
		h.Close()
		if err := within(t, failed); !errors.Is(err, errGuestPipe) {
			t.Error(err)
		}
		c.shutdown(shutBoth)
		g.settle(0)
	})
	t.Run("by the host, which has not read all", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		if _, err := c.Write(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(h, make([]byte, 5))
		h.Close()
		g.settle(0)
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	})
	t.Run("by a reset of the guest", func(t *testing.T) {
		c, h := vsockPair(t, g, requests)
		g.send(c.header(opReset), nil)
		if _, err := io.ReadAll(h); err != nil {
			t.Error(err)
		}
		if _, err := h.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
		g.settle(0)
	})
}

// A guest that tells of no credit by itself is asked.
func TestVsockCreditRequest(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	ports := vsockPorts{host: 9, guest: 9}
	g.send(g.header(ports, opRequest), nil)
	r := within(t, requests)
	r.decide(true)
	h := hostEnd(t, r.far)
	go h.Write(make([]byte, 3*guestBuffer))
	var got uint32
	for asked, told := 0, 0; asked < 2 || told == 0; {
		p := g.stray()
		switch p.op {
		case opCreditUpdate: // the answer to ours
			told++
		case opData:
			got += p.length
		case opCreditRequest:
			asked++
			if got != uint32(asked)*guestBuffer {
				t.Errorf("asked for credit after %d bytes", got)
			}
			update := g.header(ports, opCreditRequest) // a question is told with credit as well
			update.fwdCnt = got
			g.send(update, nil)
		}
		if t.Failed() {
			return
		}
	}
}

func TestVsockManyStreams(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	go func() {
		for r := range requests {
			h := hostEnd(t, r.far)
			r.decide(true)
			go func() {
				io.Copy(h, h)
				h.Close()
			}()
		}
	}()
	t.Cleanup(func() { close(requests) })
	var wg sync.WaitGroup
	for range 150 {
		wg.Go(func() {
			c, err := g.dial(1)
			if err != nil {
				t.Error(err)
				return
			}
			transfer(t, c, func() { c.shutdown(shutSend) }, c, 100_000)
			c.shutdown(shutBoth)
		})
	}
	wg.Wait()
	g.settle(0)
	if n := len(v.streams) + len(v.sockets); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// The machine is paused again and again, and no byte is lost.
func TestVsockPause(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	c, h := vsockPair(t, g, requests)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				g.d.dev.Pause()
				g.d.dev.Resume()
			}
		}
	}()
	var wg sync.WaitGroup
	wg.Go(func() { transfer(t, c, func() { c.shutdown(shutSend) }, h, bulk/4) })
	wg.Go(func() { transfer(t, h, func() { h.CloseWrite() }, c, bulk/4) })
	wg.Wait()
	close(stop)
	<-stopped
	c.shutdown(shutBoth)
	g.settle(0)
}

// What the device has taken ahead of its need is the queue's again while it rests.
func TestVsockPauseGivesBack(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.start()
	c, h := vsockPair(t, g, requests)
	for i := range 300 { // more than there are buffers
		h.Write([]byte{byte(i)})
		b := make([]byte, 1)
		if _, err := c.Read(b); err != nil || b[0] != byte(i) {
			t.Fatalf("%x, %v", b, err)
		}
		g.d.dev.Pause()
		for n, q := range g.d.dev.queues[:2] {
			if s := q.State(); s.NextAvail != s.NextUsed {
				t.Fatalf("queue %d rests with %d requests", n, s.NextAvail-s.NextUsed)
			}
		}
		g.d.dev.Resume()
	}
}

// A driver that begins anew finds no streams, and hosts whose streams have ended.
func TestVsockReset(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.listens[1] = true
	g.start()
	_, h := vsockPair(t, g, requests)
	g.send(g.header(vsockPorts{5, 5}, opRequest), nil)
	undecided := within(t, requests)
	g.mu.Lock()
	g.noRX = true
	g.mu.Unlock()
	sent, _ := dialGuest(v, 2) // nobody listens, and the answer will come too late
	g.halt()
	g.d.reset()
	if b, err := io.ReadAll(h); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
	undecided.decide(true)
	undecided.far.Close()
	select {
	case d := <-sent:
		if d.err == nil {
			t.Errorf("%+v", d)
		}
	default: // the guest had not seen it yet: it waits for the next driver
	}
	waits, _ := dialGuest(v, 1)
	v.Close()
	if d := within(t, waits); !errors.Is(d.err, ErrReset) {
		t.Errorf("%+v", d)
	}
	late, _ := dialGuest(v, 1)
	if d := within(t, late); !errors.Is(d.err, ErrReset) {
		t.Errorf("%+v", d)
	}
}

// After a restore the guest is told first, and nothing else reaches it before it has noticed.
func TestVsockTransportReset(t *testing.T) {
	v, requests := listening()
	g := newGuest(t, v)
	g.listens[5000] = true
	g.start()
	events := g.d.queues[vsockEvents]
	events.add(false, g.events[0])
	events.add(false, g.events[1])
	events.kick()
	_, h := vsockPair(t, g, requests)
	g.d.dev.Pause()
	v.TransportReset()
	if b, err := io.ReadAll(h); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
	// Another process goes on from here.
	state := v.State()
	if err := v.Restore(state); err != nil {
		t.Fatal(err)
	}
	done, _ := dialGuest(v, 5000)
	g.d.dev.Resume()
	if _, n := events.wait(); n != 4 {
		t.Errorf("an event of %d bytes", n)
	}
	g.d.dev.Pause()
	if v.State().Gate != uint8(gateRefill) || len(done) > 0 {
		t.Errorf("%+v", v.State())
	}
	g.d.dev.Resume()
	g.mu.Lock()
	early := len(g.opened)
	g.mu.Unlock()
	events.add(false, g.events[2])
	events.kick()
	if d := within(t, done); d.err != nil || early > 0 {
		t.Errorf("%+v, %d early", d, early)
	}
	if c := g.take(); c.ports.host != state.LastPort+1 {
		t.Errorf("port %d after %d", c.ports.host, state.LastPort)
	}
	if v.Restore(VsockState{Gate: uint8(gateInvalid)}) == nil || v.Restore(VsockState{LastPort: 1 << 31}) == nil {
		t.Error("nonsense was restored")
	}
}
