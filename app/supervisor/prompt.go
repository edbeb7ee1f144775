package supervisor

import (
	"sync"
	"time"
)

// An agent is taken to be at its prompt when it has drawn a screen, and then nothing for a while.
const (
	quiet     = 4 * time.Second
	minScreen = 400 // bytes
)

// prompt watches a session's first moments for the one in which its agent waits for its first words.
type prompt struct {
	ready chan struct{} // closed when it does
	over  chan struct{} // closed when somebody was first

	mu    sync.Mutex
	bytes int
	timer *time.Timer // since the last output
	ended bool
}

func newPrompt() *prompt { return &prompt{ready: make(chan struct{}), over: make(chan struct{})} }

// Write takes note of what the agent writes.
func (p *prompt) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return len(b), nil
	}
	p.bytes += len(b)
	switch {
	case p.timer != nil:
		p.timer.Reset(quiet)
	case p.bytes >= minScreen:
		p.timer = time.AfterFunc(quiet, p.arrive)
	}
	return len(b), nil
}

func (p *prompt) arrive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended = true
		close(p.ready)
	}
}

// spoil ends the watch: the machine is not any more as another session would find it.
func (p *prompt) spoil() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.over:
	default:
		close(p.over)
	}
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// waits says whether nothing has spoilt it.
func (p *prompt) waits() bool {
	select {
	case <-p.over:
		return false
	default:
		return true
	}
}

// typing is a view of the agent's terminal that tells when somebody types.
type typing struct {
	terminal
	prompt *prompt
}

// Write passes on what is typed. What begins with an escape is what terminals answer by themselves, mostly.
func (t typing) Write(b []byte) (int, error) {
	if len(b) > 0 && b[0] != 0x1b {
		t.prompt.spoil()
	}
	return t.terminal.Write(b)
}
