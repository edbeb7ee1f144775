package link

import (
	"fmt"
	"time"
)

// admit decides on a frame of the peer: whether yamux may see it, or that it ends the link.
func (g *guard) admit(f frame) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.streams[f.id]
	if f.flags&flagSYN != 0 {
		return g.opened(f, s)
	}
	if s == nil {
		// A stream that was reset or forgotten here, of which the peer does not know yet.
		if f.kind == typeData {
			g.queueRemote(f.id)
		}
		return false, nil
	}
	if f.flags&flagRST != 0 {
		g.remove(s)
		return true, nil
	}
	if f.flags&flagACK != 0 {
		if s.inbound || s.answered {
			return false, fmt.Errorf("%w: unasked acknowledgement of stream %d", ErrProtocol, f.id)
		}
		s.answered = true
	}
	if f.kind == typeData {
		return g.arrived(f, s)
	}
	if f.flags&flagFIN != 0 {
		if s.remoteFIN {
			return false, fmt.Errorf("%w: stream %d closed twice", ErrProtocol, f.id)
		}
		s.remoteFIN = true
		if s.localFIN {
			g.remove(s)
		}
	}
	return true, nil
}

func (g *guard) opened(f frame, s *flow) (bool, error) {
	if f.id&1 != g.peer || s != nil {
		return false, fmt.Errorf("%w: peer opens stream %d", ErrProtocol, f.id)
	}
	if g.inbound >= g.limits.streams {
		g.queueRemote(f.id)
		return false, nil
	}
	g.streams[f.id] = &flow{id: f.id, inbound: true}
	g.inbound++
	return true, nil
}

func (g *guard) arrived(f frame, s *flow) (bool, error) {
	if s.remoteFIN {
		return false, fmt.Errorf("%w: data after the end of stream %d", ErrProtocol, f.id)
	}
	if s.released {
		// Nobody will read it. As TCP does: the peer learns when it writes, not before, so that what it has not read yet reaches it.
		g.abort(s)
		return false, nil
	}
	total := g.unread + int64(f.body())
	if total > 2*g.limits.unread {
		return false, fmt.Errorf("%w: more than %d bytes unread", ErrProtocol, 2*g.limits.unread)
	}
	if total > g.limits.unread && s.unread+f.body() > maxFrame {
		// What the stream holds counts until its Conn is closed.
		g.abort(s)
		return false, nil
	}
	s.unread += f.body()
	g.unread = total
	if s.inbound && !s.claimed && s.unread > portSize {
		// Nobody counts such bytes down if the stream ends before it is taken up.
		return false, fmt.Errorf("%w: data before the answer on stream %d", ErrProtocol, f.id)
	}
	return true, nil
}

// sent follows the frames of this side's yamux.
func (g *guard) sent(f frame) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.streams[f.id]
	switch {
	case f.flags&flagSYN != 0:
		g.streams[f.id] = &flow{id: f.id}
	case s == nil:
	case f.flags&flagRST != 0: // yamux's own backlog is full
		g.remove(s)
	case f.flags&flagFIN != 0:
		s.localFIN = true
		if s.remoteFIN {
			g.remove(s)
		}
	}
}

// claim gives a stream to a Conn. It is nil if the stream has ended already.
func (g *guard) claim(id uint32) *flow {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.streams[id]
	if s == nil || s.claimed {
		return nil
	}
	s.claimed = true
	return s
}

// consume counts n bytes as read, and says whether the stream's buffer ought to be given back: an empty one keeps its size in yamux, which matters when
// a peer holds thousands of them.
func (g *guard) consume(s *flow, n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !s.released {
		s.unread -= n
		g.unread -= int64(n)
	}
	return s.unread == 0 && len(g.streams) > 64
}

// ended says whether the peer closed the stream for writing.
func (g *guard) ended(s *flow) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return s.remoteFIN
}

// orphanTime is how long a stream is kept that this side has closed and the peer has not. TCP's FIN-WAIT-2 is the like of it.
const orphanTime = time.Minute

// release takes a stream back from its Conn, and says whether it is still to be closed through yamux. With bytes unread it is reset at
// once, for the peer may be waiting for room in the window.
func (g *guard) release(s *flow, reset bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	unread := s.unread
	g.unread -= int64(unread)
	s.unread, s.released = 0, true
	if g.streams[s.id] != s {
		return true
	}
	if reset || unread > 0 && !s.remoteFIN {
		g.abort(s)
		return false
	}
	if !s.remoteFIN {
		s.orphan = time.AfterFunc(orphanTime, func() { g.forget(s) })
	}
	return true
}

// forget frees a stream that this side has closed and the peer has not. The peer keeps its half: what it has not read yet stays readable, and it is told when it writes.
func (g *guard) forget(s *flow) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streams[s.id] == s {
		g.local = append(g.local, s.id)
		g.remove(s)
	}
}

// abort resets a stream on both sides.
func (g *guard) abort(s *flow) {
	g.queueRemote(s.id)
	g.local = append(g.local, s.id)
	g.remove(s)
}

func (g *guard) queueRemote(id uint32) {
	if len(g.remote) >= g.limits.resets {
		return
	}
	g.remote[id] = true
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *guard) remove(s *flow) {
	delete(g.streams, s.id)
	if s.inbound {
		g.inbound--
	}
	if !s.claimed {
		g.unread -= int64(s.unread)
		s.unread = 0
	}
	if s.orphan != nil {
		s.orphan.Stop()
	}
}
