package vt

import "sync"

const (
	maxQueued     = 256      // events waiting
	maxReplyBytes = 64 << 10 // answers waiting
)

// queue hands events to callbacks in order, on a goroutine that lives while there are any. What does not fit is dropped: a program that
// asks faster than answers are taken away gets fewer.
type queue struct {
	mu      sync.Mutex
	events  []func()
	bytes   int
	dirty   bool
	running bool
}

func (q *queue) push(f func(), bytes int) {
	if f == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) >= maxQueued || q.bytes+bytes > maxReplyBytes {
		return
	}
	q.bytes += bytes
	q.events = append(q.events, func() {
		q.mu.Lock()
		q.bytes -= bytes
		q.mu.Unlock()
		f()
	})
	q.start()
}

// change queues one call of f, unless one waits already.
func (q *queue) change(f func()) {
	if f == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dirty {
		return
	}
	q.dirty = true
	// Not bounded by maxQueued: there is at most one, and without it a frame would be lost.
	q.events = append(q.events, func() {
		q.mu.Lock()
		q.dirty = false
		q.mu.Unlock()
		f()
	})
	q.start()
}

// start is called with the lock held.
func (q *queue) start() {
	if !q.running {
		q.running = true
		go q.drain()
	}
}

func (q *queue) drain() {
	for {
		q.mu.Lock()
		if len(q.events) == 0 {
			q.events = nil
			q.running = false
			q.mu.Unlock()
			return
		}
		f := q.events[0]
		q.events = q.events[1:]
		q.mu.Unlock()
		f()
	}
}
