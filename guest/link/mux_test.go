package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPort Port = 4000

// sockets are two ends of a socket pair, which has room for bytes in flight, as a serial port of QEMU's has.
func sockets(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket pair")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return ends[0], ends[1]
}

func pair(t testing.TB) (host, guest *Mux) {
	t.Helper()
	a, b := sockets(t)
	host, guest = NewMux(a, Host), NewMux(b, Guest)
	t.Cleanup(func() { host.Close(); guest.Close() })
	return host, guest
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func listen(t testing.TB, m *Mux, port Port) net.Listener {
	t.Helper()
	l, err := m.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t testing.TB, m *Mux, port Port) Conn {
	t.Helper()
	c, err := m.Dial(within(t), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// connected is one stream, seen from both sides.
func connected(t testing.TB, from, to *Mux) (dialed, taken Conn) {
	t.Helper()
	l := listen(t, to, testPort)
	dialed = dial(t, from, testPort)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	l.Close()
	return dialed, c.(Conn)
}

func bothWays(t *testing.T, f func(t *testing.T, from, to *Mux)) {
	t.Run("host dials", func(t *testing.T) { h, g := pair(t); f(t, h, g) })
	t.Run("guest dials", func(t *testing.T) { h, g := pair(t); f(t, g, h) })
	t.Run("without buffer", func(t *testing.T) {
		a, b := net.Pipe()
		h, g := NewMux(a, Host), NewMux(b, Guest)
		defer h.Close()
		defer g.Close()
		f(t, h, g)
	})
}

func TestHalfClose(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to *Mux) {
		a, b := connected(t, from, to)
		question := bytes.Repeat([]byte("question "), 100_000)
		answer := bytes.Repeat([]byte("answer "), 100_000)
		var wg sync.WaitGroup
		wg.Go(func() {
			got, err := io.ReadAll(b)
			if err != nil || !bytes.Equal(got, question) {
				t.Errorf("taker read %d bytes, %v", len(got), err)
			}
			b.Write(answer)
			b.CloseWrite()
		})
		if _, err := a.Write(question); err != nil {
			t.Error(err)
		}
		if err := a.CloseWrite(); err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(a)
		if err != nil || !bytes.Equal(got, answer) {
			t.Errorf("dialer read %d bytes, %v", len(got), err)
		}
		wg.Wait()
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		if a.LocalAddr().String() == a.RemoteAddr().String() || a.RemoteAddr().String() != b.LocalAddr().String() {
			t.Errorf("addresses %v %v %v %v", a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr())
		}
	})
}

func TestRefused(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to *Mux) {
		listen(t, to, testPort)
		if _, err := from.Dial(within(t), testPort+1); !errors.Is(err, ErrRefused) {
			t.Errorf("dial: %v", err)
		}
	})
}

func TestDialWaitsForFirstListen(t *testing.T) {
	host, guest := pair(t)
	dialed := make(chan error)
	go func() {
		c, err := host.Dial(within(t), testPort)
		if err == nil {
			c.Close()
		}
		dialed <- err
	}()
	// The stream has come when it is in the guest's table.
	waitFor(t, func() bool { return guest.streams() == 1 })
	l := listen(t, guest, testPort)
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := <-dialed; err != nil {
		t.Fatal(err)
	}
}

func TestListenTwice(t *testing.T) {
	host, _ := pair(t)
	l := listen(t, host, testPort)
	if _, err := host.Listen(testPort); err == nil {
		t.Fatal("second listener on a port")
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	listen(t, host, testPort)
}

// A relay that has sent its answer may close while the reader has not read it yet.
func TestCloseKeepsWhatWasWritten(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to *Mux) {
		a, b := connected(t, from, to)
		data := bytes.Repeat([]byte("x"), 200_000)
		if _, err := b.Write(data); err != nil {
			t.Fatal(err)
		}
		b.Close()
		got, err := io.ReadAll(a)
		if err != nil || len(got) != len(data) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	})
}

// One who writes without end to a stream that nobody reads any more is told so.
func TestWriterLearnsOfClose(t *testing.T) {
	for _, unread := range []bool{false, true} {
		t.Run(fmt.Sprintf("unread=%v", unread), func(t *testing.T) {
			bothWays(t, func(t *testing.T, from, to *Mux) {
				a, b := connected(t, from, to)
				if unread {
					go a.Write(make([]byte, 2*window))
					waitFor(t, func() bool { return to.unread() >= window-portSize })
				}
				b.Close()
				var err error
				for err == nil {
					_, err = a.Write(make([]byte, 1<<20))
				}
				if !errors.Is(err, ErrReset) {
					t.Errorf("write: %v", err)
				}
				if n := to.unread(); n != 0 {
					t.Errorf("%d bytes still counted", n)
				}
				waitFor(t, func() bool { return from.streams() == 0 && to.streams() == 0 })
			})
		})
	}
}

func TestCloseWakesReaderAndWriter(t *testing.T) {
	host, guest := pair(t)
	a, _ := connected(t, host, guest)
	errs := make(chan error, 2)
	go func() { _, err := a.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := a.Write(make([]byte, 2*window)); errs <- err }()
	waitFor(t, func() bool { return guest.unread() >= window-portSize })
	a.Close()
	for range 2 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

func TestDeadline(t *testing.T) {
	host, guest := pair(t)
	a, _ := connected(t, host, guest)
	a.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := a.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("not a time-out: %v", err)
	}
}

// A peer that reads nothing, as a machine that is paused or has not started, holds no dialer beyond its context, and nothing when the link is closed.
func TestSilentPeer(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	m := NewMux(a, Host)
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error)
	for range 20 {
		go func() { _, err := m.Dial(ctx, testPort); errs <- err }()
	}
	cancel()
	for range 20 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("dial: %v", err)
		}
	}
	go func() { _, err := m.Dial(context.Background(), testPort); errs <- err }()
	m.Close()
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("dial: %v", err)
	}
}

func TestDialTimesOutOnSilentListener(t *testing.T) {
	host, guest := pair(t) // nothing listens yet, so the answer waits
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := host.Dial(ctx, testPort); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dial: %v", err)
	}
	// The reset reaches the guest; the next stream lets the host forget its own side.
	waitFor(t, func() bool { return guest.streams() == 0 })
	connected(t, host, guest)
}

func TestManyStreams(t *testing.T) {
	host, guest := pair(t)
	l := listen(t, guest, testPort)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
				c.(Conn).CloseWrite()
			}()
		}
	}()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			c, err := host.Dial(within(t), testPort)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			sent, got := sha256.New(), sha256.New()
			var w sync.WaitGroup
			w.Go(func() {
				for j := range 10 {
					b := bytes.Repeat([]byte{byte(i), byte(j)}, 5_000)
					sent.Write(b)
					if _, err := c.Write(b); err != nil {
						t.Error(err)
					}
				}
				c.CloseWrite()
			})
			n, err := io.Copy(got, c)
			w.Wait()
			if err != nil || n != 100_000 || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Errorf("stream %d: %d bytes back, %v", i, n, err)
			}
		})
	}
	wg.Wait()
	waitFor(t, func() bool { return host.streams() == 0 && guest.streams() == 0 })
}

// A guest that opens ten thousand streams and leaves them idle takes nothing from the others.
func TestIdleStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 streams")
	}
	host, guest := pair(t)
	l := listen(t, host, testPort)
	const n = 10_000
	taken := make(chan net.Conn, n)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range n / 100 {
				if _, err := guest.Dial(within(t), testPort); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	l2 := listen(t, host, testPort+1)
	go func() {
		if c, err := l2.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c := dial(t, guest, testPort+1)
	c.Write([]byte("still here"))
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "still here" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestStreamLimit(t *testing.T) {
	a, b := sockets(t)
	host, guest := newMux(a, Host, limits{streams: 3, unread: 1 << 20, resets: 16}), NewMux(b, Guest)
	defer host.Close()
	defer guest.Close()
	l := listen(t, host, testPort)
	conns := make([]Conn, 3)
	for i := range conns {
		conns[i] = dial(t, guest, testPort)
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := guest.Dial(within(t), testPort); !errors.Is(err, ErrReset) {
		t.Fatalf("dial beyond the limit: %v", err)
	}
	conns[0].(*stream).abort()
	waitFor(t, func() bool { return host.streams() == 2 })
	dial(t, guest, testPort)
}

// Beyond the bound on unread bytes, the streams that hold most of them are reset, and others go on.
func TestUnreadLimit(t *testing.T) {
	a, b := sockets(t)
	host, guest := newMux(a, Host, limits{streams: 100, unread: 5 * maxFrame, resets: 16}), NewMux(b, Guest)
	defer host.Close()
	defer guest.Close()
	l := listen(t, host, testPort)
	open := func() (Conn, net.Conn) {
		c := dial(t, guest, testPort)
		taken, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c, taken
	}
	fat, taken := open()
	var err error
	for err == nil {
		_, err = fat.Write(make([]byte, maxFrame))
	}
	if !errors.Is(err, ErrReset) {
		t.Fatalf("write: %v", err)
	}
	if n := host.unread(); n != 5*maxFrame {
		t.Errorf("%d bytes counted", n)
	}
	small, reader := open()
	small.Write([]byte("small"))
	if _, err := io.ReadFull(reader, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, taken); !errors.Is(err, ErrReset) {
		t.Errorf("read of the reset stream: %v", err)
	}
	taken.Close()
	waitFor(t, func() bool { return host.unread() == 0 })

	// Many small ones end the link at twice the bound.
	var conns []Conn
	for range 11 {
		c, taken := open()
		defer taken.Close()
		conns = append(conns, c)
	}
	for _, c := range conns {
		go c.Write(make([]byte, maxFrame))
	}
	<-host.Done()
	if !errors.Is(host.Err(), ErrProtocol) {
		t.Errorf("err: %v", host.Err())
	}
}

// A stream that is cut is not a stream that ended.
func TestEndOfLinkIsNotEOF(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to *Mux) {
		a, b := connected(t, from, to)
		b.Write([]byte("half of it"))
		to.Close()
		got, err := io.ReadAll(a)
		if err == nil {
			t.Errorf("read %q without an error", got)
		}
		<-from.Done()
		if !errors.Is(from.Err(), ErrClosed) || !errors.Is(to.Err(), ErrClosed) {
			t.Errorf("%v; %v", from.Err(), to.Err())
		}
		if _, err := from.Dial(within(t), testPort); !errors.Is(err, ErrClosed) {
			t.Errorf("dial: %v", err)
		}
		if _, err := from.Listen(testPort); !errors.Is(err, ErrClosed) {
			t.Errorf("listen: %v", err)
		}
	})
}

// The question is ended, the answer takes longer than any timer of yamux's would like, were they on.
func TestOrphansAreForgotten(t *testing.T) {
	host, guest := pair(t)
	a, b := connected(t, host, guest)
	b.Write([]byte("answer"))
	b.Close()
	guest.now().forget(b.(*stream).flow) // as its timer does
	if got, err := io.ReadAll(a); err != nil || string(got) != "answer" {
		t.Fatalf("%q, %v", got, err)
	}
	// It may be told only once it writes.
	var err error
	for err == nil {
		_, err = a.Write([]byte("more"))
	}
	if !errors.Is(err, ErrReset) {
		t.Errorf("write: %v", err)
	}
}

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
	}
}

// now is the guard of the session, once there is one.
func (m *Mux) now() *guard {
	s, err := m.session(context.Background())
	if err != nil {
		return &guard{}
	}
	return s.guard
}

func (m *Mux) streams() int {
	g := m.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.streams)
}

func (m *Mux) unread() int {
	g := m.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	return int(g.unread)
}

// newMux has limits of its own.
func newMux(rwc io.ReadWriteCloser, side Side, l limits) *Mux {
	return startMux(rwc, side, l, newNonce(), shortZeros)
}

func BenchmarkStream(b *testing.B) {
	host, guest := pair(b)
	x, y := connected(b, host, guest)
	go func() {
		buf := make([]byte, 32<<10)
		for {
			if _, err := x.Write(buf); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 32<<10)
	b.SetBytes(32 << 10)
	for b.Loop() {
		if _, err := io.ReadFull(y, buf); err != nil {
			b.Fatal(err)
		}
	}
}
