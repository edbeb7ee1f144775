package virtio

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// spoolSize is how much waits for a writer that is slow. What is older is lost then.
const spoolSize = 256 << 10

// spool hands bytes on to a writer without ever waiting for it. It has a goroutine only while there is something to write; one that hangs in the
// writer ends when that is closed.
type spool struct {
	to io.Writer

	mu      sync.Mutex
	waiting []byte
	lost    int           // bytes, since the writer was last told
	idle    chan struct{} // closed when all is written; nil when it is
	failed  bool
}

// add takes p, which it copies.
func (s *spool) add(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed || len(p) == 0 {
		return
	}
	if len(p) > spoolSize {
		s.lost += len(p) - spoolSize
		p = p[len(p)-spoolSize:]
	}
	if over := len(s.waiting) + len(p) - spoolSize; over > 0 {
		// At least half goes at once, or every byte of a flood would move all the others.
		over = min(max(over, spoolSize/2), len(s.waiting))
		s.lost += over
		s.waiting = append(s.waiting[:0], s.waiting[over:]...)
	}
	s.waiting = append(s.waiting, p...)
	if s.idle == nil {
		s.idle = make(chan struct{})
		go s.write(s.idle)
	}
}

// write runs until nothing waits.
func (s *spool) write(idle chan struct{}) {
	defer close(idle)
	var chunk []byte
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 || s.failed {
			s.idle = nil
			s.mu.Unlock()
			return
		}
		chunk, s.waiting = s.waiting, chunk[:0]
		lost := s.lost
		s.lost = 0
		s.mu.Unlock()
		var err error
		if lost > 0 {
			_, err = fmt.Fprintf(s.to, "\n[%d bytes were lost here]\n", lost)
		}
		if err == nil {
			_, err = s.to.Write(chunk)
		}
		if err != nil {
			// Nobody is there to read any more.
			s.mu.Lock()
			s.failed, s.waiting = true, nil
			s.mu.Unlock()
		}
	}
}

// flush waits until all is written, but not longer than limit.
func (s *spool) flush(limit time.Duration) {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	if idle == nil {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}
