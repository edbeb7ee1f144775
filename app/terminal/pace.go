package terminal

import (
	"sync"
	"time"
)

// frameInterval is the least time between two frames: 60 a second.
const frameInterval = time.Second / 60

// pacer calls frame after each kick, but no oftener than once in frameInterval and never twice at the same time. Its goroutine lives while
// there is something to do.
type pacer struct {
	frame func()

	mu      sync.Mutex
	pending bool
	running bool
	last    time.Time
}

func (p *pacer) kick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = true
	if !p.running {
		p.running = true
		go p.run()
	}
}

// after kicks once d has passed.
func (p *pacer) after(d time.Duration) { time.AfterFunc(d, p.kick) }

func (p *pacer) run() {
	for {
		p.mu.Lock()
		if !p.pending {
			p.running = false
			p.mu.Unlock()
			return
		}
		wait := frameInterval - time.Since(p.last)
		p.mu.Unlock()
		if wait > 0 {
			time.Sleep(wait)
		}
		p.mu.Lock()
		p.pending = false
		p.last = time.Now()
		p.mu.Unlock()
		p.frame()
	}
}
