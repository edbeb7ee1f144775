package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/yamux"
)

// session is a Mux's time with one peer.
type session struct {
	mux   *Mux
	guard *guard
	yamux *yamux.Session
	ended chan struct{} // closed when the streams have ended
	over  chan struct{} // closed when the Mux has let go of it
}

// newSession has the host begin it, with that many zeros.
func (m *Mux) newSession(n nonce, zeros int) (*session, error) {
	s := &session{mux: m, guard: newGuard(m.wire, m.side, n, m.limits), ended: make(chan struct{}), over: make(chan struct{})}
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
	start := yamux.Server
	if m.side == Host {
		start = yamux.Client
		// It is read meanwhile: the guest may have to end a frame before it reads on.
		m.wire.send.Lock()
		s.guard.done.Go(func() {
			defer m.wire.send.Unlock()
			if err := m.wire.begin(n, zeros); err != nil {
				s.guard.fail(err)
				s.guard.Close()
			}
		})
	}
	var err error
	if s.yamux, err = start(s.guard, cfg); err != nil {
		s.guard.Close()
		s.guard.done.Wait()
		return nil, err
	}
	return s, nil
}

// run takes the streams that the peer opens, whose number is the guard's to bound, until the session has ended, and says why.
func (s *session) run() error {
	var cause error
	for {
		y, err := s.yamux.AcceptStream()
		if err != nil {
			cause = err
			break
		}
		c := s.newStream(y, 0)
		if c == nil || !s.mux.spawn(func() { s.greet(c) }) {
			y.Close()
		}
	}
	close(s.ended)
	s.close()
	s.guard.done.Wait()
	if fault := s.guard.fault(); fault != nil {
		cause = fault // yamux says less of it
	}
	return cause
}

// close waits for yamux's goroutines.
func (s *session) close() {
	s.yamux.Close()
	s.guard.Close()
}

func (s *session) dial(ctx context.Context, port Port) (*stream, error) {
	y, err := s.yamux.OpenStream()
	if err != nil {
		return nil, s.lost(err)
	}
	c := s.newStream(y, port)
	if c == nil {
		y.Close()
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
	default:
		err = s.lost(err)
	}
	c.abort()
	return nil, err
}

// lost is the error of a dial that had no answer.
func (s *session) lost(err error) error {
	select {
	case <-s.yamux.CloseChan():
		return s.cut()
	default:
	}
	if err == io.EOF {
		return ErrReset
	}
	return s.streamError(err)
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
func (s *session) greet(c *stream) {
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
	l := s.await(c.port, deadline.C)
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
func (s *session) await(port Port, deadline <-chan time.Time) *listener {
	select {
	case <-s.mux.listening:
	case <-deadline:
		return nil
	case <-s.ended:
		return nil
	}
	s.mux.mu.Lock()
	l := s.mux.listeners[port]
	s.mux.mu.Unlock()
	if l == nil {
		return nil
	}
	select {
	case l.places <- struct{}{}:
		return l
	case <-l.closed:
	case <-deadline:
	case <-s.ended:
	}
	return nil
}
