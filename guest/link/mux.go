package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
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
type Mux struct {
	side  Side
	guard *guard
	sess  *yamux.Session
	dials chan struct{}

	mu        sync.Mutex
	listeners map[Port]*listener
	closed    bool
	tasks     sync.WaitGroup
	listening chan struct{} // closed by the first Listen
	closing   chan struct{} // closed when the streams have ended
	done      chan struct{}
	err       error
}

// NewMux starts a link over rwc and owns it from then on. rwc's Close must unblock its Read and Write.
func NewMux(rwc io.ReadWriteCloser, side Side) *Mux {
	return newMux(rwc, side, defaultLimits)
}

func newMux(rwc io.ReadWriteCloser, side Side, l limits) *Mux {
	m := &Mux{
		side:      side,
		guard:     newGuard(rwc, side, l),
		dials:     make(chan struct{}, dialing),
		listeners: map[Port]*listener{},
		listening: make(chan struct{}),
		closing:   make(chan struct{}),
		done:      make(chan struct{}),
	}
	cfg := &yamux.Config{
		// Also how many streams of ours may be unanswered.
		AcceptBacklog:     2 * dialing,
		KeepAliveInterval: time.Hour, // off, but it is checked
		// A paused machine reads nothing for as long as its owner likes.
		ConnectionWriteTimeout: 100 * 365 * 24 * time.Hour,
		StreamOpenTimeout:      0,
		// It runs from half-close, so it would end a long download whose question was ended by the client.
		StreamCloseTimeout:  0,
		MaxStreamWindowSize: window,
		LogOutput:           io.Discard,
	}
	start := yamux.Client
	if side == Guest {
		start = yamux.Server
	}
	sess, err := start(m.guard, cfg)
	if err != nil {
		m.guard.Close()
		m.err = err
		close(m.closing)
		close(m.done)
		return m
	}
	m.sess = sess
	go m.run()
	return m
}

// run takes the streams that the peer opens, whose number is the guard's to bound, until the yamux session has ended. Then it ends the link.
func (m *Mux) run() {
	var cause error
	for {
		s, err := m.sess.AcceptStream()
		if err != nil {
			cause = err
			break
		}
		c := m.newStream(s, 0)
		if c == nil || !m.spawn(func() { m.greet(c) }) {
			s.Close()
		}
	}
	close(m.closing)
	m.sess.Close() // waits for yamux's goroutines
	m.guard.Close()
	m.guard.done.Wait()

	if fault := m.guard.fault(); fault != nil {
		cause = fault // yamux says less of it
	}
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
	m.mu.Unlock()
	if m.sess != nil {
		m.sess.Close()
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
	s, err := m.sess.OpenStream()
	if err != nil {
		return nil, streamError(err)
	}
	c := m.newStream(s, port)
	if c == nil {
		s.Close()
		return nil, ErrReset
	}
	stop := context.AfterFunc(ctx, c.abort)
	answer, err := c.ask(port)
	if !stop() {
		c.abort()
		return nil, ctx.Err()
	}
	switch {
	case err == nil && answer == accepted:
		return c, nil
	case err == nil && answer == refused:
		err = ErrRefused
	case err == nil:
		err = fmt.Errorf("%w: answer %d", ErrProtocol, answer)
	case err == io.EOF:
		err = ErrReset
	}
	c.abort()
	return nil, err
}

func (c *stream) ask(port Port) (byte, error) {
	if _, err := c.Write(binary.BigEndian.AppendUint32(nil, uint32(port))); err != nil {
		return 0, err
	}
	var answer [1]byte
	_, err := io.ReadFull(c, answer[:])
	return answer[0], err
}

// greet reads which port a stream is for, and answers.
func (m *Mux) greet(c *stream) {
	deadline := time.NewTimer(handshakeTime)
	defer deadline.Stop()
	c.SetReadDeadline(time.Now().Add(handshakeTime))
	var b [portSize]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		c.abort()
		return
	}
	c.SetReadDeadline(time.Time{})
	c.port = Port(binary.BigEndian.Uint32(b[:]))
	l := m.await(c.port, deadline.C)
	if l == nil {
		c.Write([]byte{refused})
		c.Close()
		return
	}
	if _, err := c.Write([]byte{accepted}); err != nil {
		c.abort()
		l.release()
		return
	}
	l.deliver(c)
}

// await reserves a place in the backlog of the port's listener; nil if there is none.
func (m *Mux) await(port Port, deadline <-chan time.Time) *listener {
	select {
	case <-m.listening:
	case <-deadline:
		return nil
	case <-m.closing:
		return nil
	}
	m.mu.Lock()
	l := m.listeners[port]
	m.mu.Unlock()
	if l == nil {
		return nil
	}
	select {
	case l.places <- struct{}{}:
		return l
	case <-l.closed:
	case <-deadline:
	case <-m.closing:
	}
	return nil
}
