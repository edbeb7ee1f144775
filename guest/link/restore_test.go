package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// serial is a machine's serial port with what is on its way in it. The machine's end lasts; the host's is another after each restore.
type serial struct {
	mu     sync.Mutex
	moved  *sync.Cond
	ways   [2][]byte // to the host, to the guest
	host   *serialHost
	closed bool
}

const serialRoom = 4 << 10 // of each way: as a queue's, less than a frame

func newSerial() *serial {
	s := &serial{}
	s.moved = sync.NewCond(&s.mu)
	return s
}

// serialHost is a host's end. It is cut when left bytes have passed it.
type serialHost struct {
	*serial
	left int
}

// attach is a new host, of which the first left bytes in both directions together pass.
func (s *serial) attach(left int) *serialHost {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = &serialHost{s, left}
	s.moved.Broadcast()
	return s.host
}

// move copies between p and a way as long as it may: n says how many bytes it can at once.
func (s *serial) move(p []byte, n func() (int, error), do func([]byte)) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for len(p) > total {
		n, err := n()
		if err != nil {
			return total, err
		}
		if n = min(n, len(p)-total); n == 0 {
			s.moved.Wait()
			continue
		}
		do(p[total : total+n])
		total += n
		s.moved.Broadcast()
	}
	return total, nil
}

func (s *serial) take(way int) func([]byte) {
	return func(p []byte) { s.ways[way] = s.ways[way][copy(p, s.ways[way]):] }
}

func (s *serial) put(way int) func([]byte) {
	return func(p []byte) { s.ways[way] = append(s.ways[way], p...) }
}

// some waits for any bytes, not for all.
func (s *serial) some(way int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(1, len(s.ways[way]))
}

func (s *serial) Read(p []byte) (int, error) {
	return s.move(p[:min(len(p), s.some(1))], func() (int, error) {
		if s.closed {
			return 0, io.EOF
		}
		return len(s.ways[1]), nil
	}, s.take(1))
}

func (s *serial) Write(p []byte) (int, error) {
	return s.move(p, func() (int, error) {
		if s.closed {
			return 0, io.ErrClosedPipe
		}
		return serialRoom - len(s.ways[0]), nil
	}, s.put(0))
}

func (s *serial) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.moved.Broadcast()
	return nil
}

func (h *serialHost) bound(n int) (int, error) {
	if h.host != h || h.left == 0 {
		return 0, io.EOF
	}
	return min(n, h.left), nil
}

func (h *serialHost) Read(p []byte) (int, error) {
	take := h.take(0)
	return h.move(p[:min(len(p), h.some(0))], func() (int, error) { return h.bound(len(h.ways[0])) }, func(p []byte) { h.left -= len(p); take(p) })
}

func (h *serialHost) Write(p []byte) (int, error) {
	put := h.put(1)
	return h.move(p, func() (int, error) { return h.bound(serialRoom - len(h.ways[1])) }, func(p []byte) { h.left -= len(p); put(p) })
}

func (h *serialHost) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = 0
	h.moved.Broadcast()
	return nil
}

// counted is a stream's content, of which every byte can be checked. It has marks in it, as a hostile server could send them.
func counted() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 300_000; i++ {
		fmt.Fprintf(&b, "line %d %s\x00\x00%s", i, markHost, markGuest)
	}
	return b.Bytes()
}

// checked reads c to its end. What comes before that is right.
func checked(c io.Reader, want []byte) error {
	got, err := io.ReadAll(c)
	if !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want) {
		return fmt.Errorf("stream of %d bytes is wrong (%v)", len(got), err)
	}
	if err != nil && !errors.Is(err, ErrReset) && !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// serveCounted takes streams of l for as long as it lasts: each gets content, and then the like is expected back.
func serveCounted(t *testing.T, tasks *sync.WaitGroup, l net.Listener, content []byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		tasks.Go(func() {
			defer c.Close()
			c.Write(content)
			c.(Conn).CloseWrite()
			if err := checked(c, content); err != nil {
				t.Error(err)
			}
		})
	}
}

// exchangeCounted opens streams until done.
func exchangeCounted(t *testing.T, m *Mux, content []byte, done <-chan struct{}) {
	for {
		c, err := m.Dial(t.Context(), testPort)
		if err != nil {
			if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrReset) {
				t.Errorf("dial: %v", err)
			}
			return
		}
		var both sync.WaitGroup
		both.Go(func() { c.Write(content); c.CloseWrite() })
		if err := checked(c, content); err != nil {
			t.Error(err)
		}
		both.Wait()
		c.Close()
		select {
		case <-done:
			return
		default:
		}
	}
}

// A machine is restored a thousand times, each time in the midst of what it and its host are writing. No wrong byte comes through, and afterwards streams
// can be opened both ways.
func TestRestore(t *testing.T) {
	rounds := 1000
	if testing.Short() {
		rounds = 50
	}
	random := rand.New(rand.NewPCG(1, 2))
	content := counted()
	port := newSerial()
	guest := NewMux(port, Guest)
	var tasks sync.WaitGroup
	over := make(chan struct{})
	l, err := guest.Listen(testPort)
	if err != nil {
		t.Fatal(err)
	}
	tasks.Go(func() { serveCounted(t, &tasks, l, content) })
	tasks.Go(func() { exchangeCounted(t, guest, content, over) })

	attach := func(left int, restored bool) (*Mux, net.Listener) {
		m := startMux(port.attach(left), Host, defaultLimits, newNonce(), shortZeros)
		if restored {
			m.Close()
			m = RestoreMux(port.attach(left))
		}
		l, err := m.Listen(testPort)
		if err != nil && !errors.Is(err, ErrClosed) { // it was cut before
			t.Fatal(err)
		}
		if err == nil {
			tasks.Go(func() { serveCounted(t, &tasks, l, content) })
		}
		return m, l
	}
	for i := range rounds {
		// Some are cut within the mark, some at its end, most in traffic.
		left := 1 + random.IntN([]int{64, longZeros + 64, 400_000}[i%3])
		m, _ := attach(left, i > 0)
		exchangeCounted(t, m, content, nil)
		<-m.Done()
		m.Close()
		if t.Failed() {
			t.Fatalf("at the restore after %d bytes", left)
		}
	}
	m, _ := attach(1<<40, true)
	c := dial(t, m, testPort)
	if err := checkedWhole(c, content); err != nil {
		t.Error(err)
	}
	taken := make(chan error)
	go func() {
		c, err := guest.Dial(t.Context(), testPort)
		if err == nil {
			err = checkedWhole(c, content)
			c.Close()
		}
		taken <- err
	}()
	if err := <-taken; err != nil {
		t.Error(err)
	}
	close(over)
	c.Close()
	m.Close()
	guest.Close()
	tasks.Wait()
}

func checkedWhole(c Conn, content []byte) error {
	go func() { c.Write(content); c.CloseWrite() }()
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, content) {
		err = fmt.Errorf("%d bytes differ", len(got))
	}
	return err
}

// What waits in the guest when the host becomes another learns of it, and the Link goes on.
func TestRestoreTellsThoseWhoWait(t *testing.T) {
	port := newSerial()
	guest := NewMux(port, Guest)
	defer guest.Close()
	old := NewMux(port.attach(1<<40), Host)
	defer old.Close()
	l := listen(t, guest, testPort)
	dial(t, old, testPort)
	read, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	waits, answers := make(chan error), make(chan error)
	go func() { _, err := read.Read(make([]byte, 1)); waits <- err }()
	go func() {
		c, err := guest.Dial(t.Context(), testPort+1) // waits for the host to listen at all
		if err == nil {
			c.Close()
		}
		answers <- err
	}()
	waitFor(t, func() bool { return old.streams() == 2 })
	old.Close()
	m := RestoreMux(port.attach(1 << 40))
	defer m.Close()
	if err := <-waits; !errors.Is(err, ErrReset) {
		t.Errorf("read: %v", err)
	}
	if _, err := read.Write([]byte("x")); !errors.Is(err, ErrReset) {
		t.Errorf("write: %v", err)
	}
	hl := listen(t, m, testPort+1)
	go hl.Accept()
	if err := <-answers; err != nil {
		t.Errorf("a dial that waited: %v", err)
	}
	dial(t, m, testPort)
	if _, err := l.Accept(); err != nil {
		t.Error(err)
	}
	if guest.Err() != nil {
		t.Error(guest.Err())
	}
}

// FuzzRestore cuts a session in which the guest was sent b, and has another follow. Whatever b is, the guest takes part in that.
func FuzzRestore(f *testing.F) {
	whole := append(append([]byte(markHost), testNonce[:]...), frames(frame{kind: typeWindowUpdate, flags: flagSYN, id: 1}, frame{kind: typeData, id: 1, length: 4})...)
	for _, n := range []int{0, 3, len(markHost), len(markHost) + 2, len(markHost) + nonceSize, len(markHost) + nonceSize + 5, len(whole) - 9, len(whole) - 1, len(whole)} {
		f.Add(whole[:n])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if i := bytes.Index(b, []byte(markHost)); i >= 0 && len(b)-i >= len(markHost)+nonceSize {
			// What follows is of a session that has begun: the host is held to the frames of a Mux.
			n := len(markHost) + nonceSize
			if !bytes.HasPrefix(whole, b[i:]) && !bytes.HasPrefix(b[i:], whole) || len(b)-i > n && !bytes.HasPrefix(whole, b[i:]) {
				t.Skip()
			}
		}
		port := newSerial()
		guest := NewMux(port, Guest)
		defer guest.Close()
		if _, err := guest.Listen(testPort); err != nil {
			t.Fatal(err)
		}
		old := port.attach(1 << 40)
		if _, err := old.Write(b); err != nil {
			t.Fatal(err)
		}
		m := RestoreMux(port.attach(1 << 40))
		defer m.Close()
		c, err := m.Dial(t.Context(), testPort)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}
