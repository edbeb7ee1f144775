package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// ErrReset: the peer gave the stream up. What was written to it may not have arrived.
var ErrReset = errors.New("link: stream reset")

// stream is a Conn of a Mux.
type stream struct {
	sess   *session
	s      *yamux.Stream
	flow   *flow
	port   Port
	mu     sync.Mutex // orders deadlines after close
	closed atomic.Bool
}

// newStream gives a yamux stream its Conn; nil if the peer has reset it already.
func (s *session) newStream(y *yamux.Stream, port Port) *stream {
	f := s.guard.claim(y.StreamID())
	if f == nil {
		return nil
	}
	return &stream{sess: s, s: y, flow: f, port: port}
}

func (c *stream) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.s.Read(p)
	if n > 0 && c.sess.guard.consume(c.flow, n) {
		c.s.Shrink()
	}
	switch {
	case err == nil:
		return n, nil
	case c.closed.Load():
		return n, net.ErrClosed
	case err == io.EOF && !c.sess.guard.ended(c.flow):
		// yamux answers so when the session has ended: the stream was cut, not closed.
		return n, c.sess.cut()
	}
	return n, c.sess.streamError(err)
}

// Write sends p in pieces, so that streams take turns.
func (c *stream) Write(p []byte) (int, error) {
	total := 0
	for {
		if c.closed.Load() {
			return total, net.ErrClosed
		}
		n, err := c.s.Write(p[:min(len(p), maxFrame)])
		total += n
		if err != nil {
			if c.closed.Load() {
				err = net.ErrClosed
			}
			return total, c.sess.streamError(err)
		}
		if p = p[n:]; len(p) == 0 {
			return total, nil
		}
	}
}

// CloseWrite ends this side's bytes; the peer reads io.EOF after them.
func (c *stream) CloseWrite() error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.sess.streamError(c.s.Close())
}

// Close gives the stream up. What was written before reaches the peer, and then io.EOF, unless there are bytes unread here or the peer writes
// more: then it is reset, as TCP does. Close does not wait for the peer.
func (c *stream) Close() error { return c.close(false) }

// abort closes and tells the peer at once.
func (c *stream) abort() { c.close(true) }

func (c *stream) close(reset bool) error {
	c.mu.Lock()
	if c.closed.Swap(true) {
		c.mu.Unlock()
		return nil
	}
	c.s.SetDeadline(time.Unix(1, 0)) // wakes those that wait in Read and Write
	c.mu.Unlock()
	if c.sess.guard.release(c.flow, reset) {
		// It may wait for a machine that is paused, and ends with the link.
		c.sess.mux.spawn(func() { c.s.Close() })
	}
	return nil
}

func (c *stream) LocalAddr() net.Addr                { return Addr{c.sess.mux.side, c.port} }
func (c *stream) RemoteAddr() net.Addr               { return Addr{1 - c.sess.mux.side, c.port} }
func (c *stream) SetDeadline(t time.Time) error      { return c.deadline(t, c.s.SetDeadline) }
func (c *stream) SetReadDeadline(t time.Time) error  { return c.deadline(t, c.s.SetReadDeadline) }
func (c *stream) SetWriteDeadline(t time.Time) error { return c.deadline(t, c.s.SetWriteDeadline) }

// deadline leaves alone the one that close has set.
func (c *stream) deadline(t time.Time, set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	return set(t)
}

// cut is the error of streams that have ended with the session.
func (s *session) cut() error {
	if s.guard.anew() {
		return ErrReset
	}
	return ErrClosed
}

// streamError speaks of yamux's errors in this package's words.
func (s *session) streamError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrConnectionReset), s.guard.anew():
		return ErrReset
	case errors.Is(err, yamux.ErrStreamClosed):
		return fmt.Errorf("link: write after close: %w", net.ErrClosed)
	case errors.Is(err, yamux.ErrSessionShutdown):
		return ErrClosed
	}
	return err
}
