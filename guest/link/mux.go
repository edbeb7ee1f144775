package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Side says which end of the serial port a Mux is.
type Side int

const (
	// Host is the end outside of the machine.
	Host Side = iota
	// Guest is the end inside.
	Guest
)

func (s Side) String() string {
	if s == Host {
		return "host"
	}
	return "guest"
}

const (
	portSize = 4
	accepted = 0
	refused  = 1

	// backlog is how many streams of a port wait for Accept; more are kept waiting for their answer.
	backlog = 128
	// dialing bounds the dials that wait for the peer at the same time. It is less than yamux's own bound, which knows no context.
	dialing = 512
	// handshakeTime is how long the peer may take to name the port of a stream that it opened, and how long the stream may wait for a listener's backlog.
	handshakeTime = 30 * time.Second
)

// Mux makes a Link of one pair of byte streams, such as a serial port, by yamux behind a guard. A stream begins with the number of the port, four bytes
// big-endian, from the side that opens it; the other answers with one byte: 0 accepted, 1 refused.
//
// Until this side's first Listen, streams that the peer opens wait for it: so a peer may dial as soon as the machine starts. Nothing of
// a Mux is timed but the handshake: a peer that rests, as a paused machine does, keeps its streams.
//
// A machine that is restored from a snapshot has another host. The guest's Mux goes on then: its streams end with ErrReset, its listeners take the
// streams of the new host, and a Dial that had no answer yet is made to it.
type Mux struct {
	side   Side
	wire   *wire
	limits limits
	dials  chan struct{}

	mu        sync.Mutex
	listeners map[Port]*listener
	sess      *session      // nil while one has ended and the next has not begun
	begun     chan struct{} // closed when sess is there
	closed    bool
	tasks     sync.WaitGroup
	listening chan struct{} // closed by the first Listen
	done      chan struct{}
	err       error
}

// NewMux starts a link over rwc and owns it from then on. rwc's Close must unblock its Read and Write.
func NewMux(rwc io.ReadWriteCloser, side Side) *Mux {
	return startMux(rwc, side, defaultLimits, newNonce(), shortZeros)
}

// RestoreMux is NewMux for the host of a machine that was restored: its guest may be in the middle of anything.
func RestoreMux(rwc io.ReadWriteCloser) *Mux {
	return startMux(rwc, Host, defaultLimits, newNonce(), longZeros)
}

func startMux(rwc io.ReadWriteCloser, side Side, l limits, n nonce, zeros int) *Mux {
	m := &Mux{
		side:      side,
		wire:      newWire(rwc),
		limits:    l,
		dials:     make(chan struct{}, dialing),
		listeners: map[Port]*listener{},
		begun:     make(chan struct{}),
		listening: make(chan struct{}),
		done:      make(chan struct{}),
	}
	go m.run(n, zeros)
	return m
}

// run goes from session to session; the host has one. Then it ends the link.
func (m *Mux) run(n nonce, zeros int) {
	var cause error
	for again := true; again && cause == nil; {
		if m.side == Guest {
			if n, cause = m.wire.begun(); cause == nil {
				cause = m.wire.write(append([]byte(markGuest), n[:]...))
			}
			if cause != nil {
				break
			}
		}
		var s *session
		if s, cause = m.newSession(n, zeros); cause != nil {
			break
		}
		cause = m.serve(s)
		if again = s.guard.anew(); again {
			cause = nil
		}
	}
	m.wire.close()

	m.mu.Lock()
	switch {
	case m.closed:
		m.err = ErrClosed
	case errors.Is(cause, io.EOF):
		m.err = fmt.Errorf("%w by the %s", ErrClosed, 1-m.side)
	default:
		m.err = fmt.Errorf("%w: %w", ErrClosed, cause)
	}
	m.closed = true
	m.mu.Unlock()
	close(m.done)
}

// serve lets streams be opened on s until it has ended, and says why it has.
func (m *Mux) serve(s *session) error {
	m.mu.Lock()
	m.sess = s
	close(m.begun)
	closed := m.closed
	m.mu.Unlock()
	if closed {
		s.close()
	}
	cause := s.run()
	m.mu.Lock()
	m.sess, m.begun = nil, make(chan struct{})
	close(s.over)
	m.mu.Unlock()
	return cause
}

// spawn runs f, and Close waits for it. It does not once the link is closed.
func (m *Mux) spawn(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.tasks.Go(f)
	return true
}

// Done is closed when the link has ended.
func (m *Mux) Done() <-chan struct{} { return m.done }

// Err says why the link has ended; nil while it has not. It wraps ErrClosed always, and ErrProtocol when the peer is to blame.
func (m *Mux) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Close ends the link and waits for its goroutines.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	s := m.sess
	m.mu.Unlock()
	m.wire.close()
	if s != nil {
		s.close()
	}
	<-m.done
	m.tasks.Wait()
	return nil
}

// Listen takes the streams that the peer opens to port.
func (m *Mux) Listen(port Port) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if m.listeners[port] != nil {
		return nil, fmt.Errorf("link: port %d is listened on already", port)
	}
	l := newListener(m, port)
	if len(m.listeners) == 0 {
		select {
		case <-m.listening:
		default:
			close(m.listening)
		}
	}
	m.listeners[port] = l
	return l, nil
}

// Dial opens a stream to a port of the peer.
func (m *Mux) Dial(ctx context.Context, port Port) (Conn, error) {
	select {
	case m.dials <- struct{}{}:
	case <-ctx.Done():
		return nil, dialError(port, ctx.Err())
	case <-m.done:
		return nil, dialError(port, m.err)
	}
	type result struct {
		conn *stream
		err  error
	}
	// Opening a stream may wait for the peer and knows no context: a goroutine waits in its place.
	results := make(chan result)
	started := m.spawn(func() {
		defer func() { <-m.dials }()
		conn, err := m.dial(ctx, port)
		select {
		case results <- result{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
		}
	})
	if !started {
		<-m.dials
		return nil, dialError(port, ErrClosed)
	}
	select {
	case r := <-results:
		if r.err != nil {
			return nil, dialError(port, r.err)
		}
		return r.conn, nil
	case <-ctx.Done():
		return nil, dialError(port, ctx.Err())
	}
}

func dialError(port Port, err error) error { return fmt.Errorf("dial port %d: %w", port, err) }

func (m *Mux) dial(ctx context.Context, port Port) (*stream, error) {
	for {
		s, err := m.session(ctx)
		if err != nil {
			return nil, err
		}
		c, err := s.dial(ctx, port)
		if err == nil || ctx.Err() != nil || !s.guard.anew() {
			return c, err
		}
	}
}

// session waits for the one that streams are opened on.
func (m *Mux) session(ctx context.Context) (*session, error) {
	for {
		m.mu.Lock()
		s, begun := m.sess, m.begun
		m.mu.Unlock()
		if s != nil && !s.guard.anew() {
			return s, nil
		}
		if s != nil {
			begun = s.over // and another begins
		}
		select {
		case <-begun:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.done:
			return nil, m.err
		}
	}
}
