package modelserver

import (
	"context"
	"sync"
)

// Halt keeps answers back in the middle of their stream until it is lifted.
type Halt struct {
	at      string
	begun   chan struct{} // closed when an answer is kept back
	lifted  chan struct{}
	one     sync.Once
	another sync.Once
}

// HaltAt has answers of the Messages API stop before the first word that is the given one. The last call is in force.
func (s *Server) HaltAt(word string) *Halt {
	h := &Halt{at: word, begun: make(chan struct{}), lifted: make(chan struct{})}
	s.halt.Store(h)
	return h
}

// Begun is closed when the first answer is kept back: what comes before the word has been sent.
func (h *Halt) Begun() <-chan struct{} { return h.begun }

// Lift lets all answers go on, for good.
func (h *Halt) Lift() { h.another.Do(func() { close(h.lifted) }) }

// await returns when the word may be sent, or the client has gone.
func (h *Halt) await(ctx context.Context, word string) {
	if h == nil || word != h.at {
		return
	}
	h.one.Do(func() { close(h.begun) })
	select {
	case <-h.lifted:
	case <-ctx.Done():
	}
}
