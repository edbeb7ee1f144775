// Package storm writes refusals to a ledger so that a storm of them stays a few rows.
//
// Within a window the first few of a kind are rows of their own, at once; what follows is counted, and the window ends with one row that says how many
// there were. The number of kinds that are told apart in a window is bounded too, so what a guest makes up costs bounded memory and a bounded
// number of rows; nothing is refused without being counted.
package storm

import (
	"fmt"
	"sync"
	"time"

	"capsid/proxy/ledger"
)

// Config is what a Recorder works with; zero fields have defaults.
type Config struct {
	Add     func(ledger.Entry) int64
	Window  time.Duration // 10 s
	PerKind int           // rows of one kind in a window: 16
	Total   int           // rows of all kinds in a window, summaries apart: 128
	Kinds   int           // kinds told apart in a window: 128
}

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = 10 * time.Second
	}
	if c.PerKind == 0 {
		c.PerKind = 16
	}
	if c.Total == 0 {
		c.Total = 128
	}
	if c.Kinds == 0 {
		c.Kinds = 128
	}
	return c
}

// Recorder takes refusals. Its methods may be called at the same time.
type Recorder struct {
	cfg Config

	mu     sync.Mutex
	kinds  map[kind]*count
	rows   int
	timer  *time.Timer // not nil while a window is open
	closed bool
}

// kind is what makes two refusals alike for a reader.
type kind struct {
	kind     ledger.Kind
	host     string
	port     int
	decision ledger.Decision
	status   int
	rule     string
}

type count struct {
	rows, more int
	last       ledger.Entry
}

// New returns a Recorder; it owns a timer while there is something to sum up.
func New(cfg Config) *Recorder {
	return &Recorder{cfg: cfg.withDefaults(), kinds: map[kind]*count{}}
}

// Add records a refusal that is over.
func (r *Recorder) Add(e ledger.Entry) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	k := kind{e.Kind, e.Host, e.Port, e.Decision, e.Status, e.Rule}
	if e.Kind == ledger.DNS {
		k.host = ledger.Domain(e.Host) // names are made up below it without end
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	c := r.kinds[k]
	if c == nil && len(r.kinds) >= r.cfg.Kinds {
		k = kind{kind: e.Kind, decision: e.Decision} // one for all that are too many to tell apart
		c = r.kinds[k]
	}
	if c == nil {
		c = &count{}
		r.kinds[k] = c
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(r.cfg.Window, r.sum)
	}
	own := c.rows < r.cfg.PerKind && r.rows < r.cfg.Total
	if own {
		c.rows++
		r.rows++
	} else {
		c.more++
		c.last = e
	}
	r.mu.Unlock()
	if own {
		r.cfg.Add(e)
	}
}

// sum ends a window.
func (r *Recorder) sum() {
	r.mu.Lock()
	kinds := r.kinds
	r.kinds, r.rows, r.timer = map[kind]*count{}, 0, nil
	r.mu.Unlock()
	for _, c := range kinds {
		switch {
		case c.more == 0:
			continue
		case c.more > 1:
			c.last.Reason = fmt.Sprintf("%d more like this in %v; the latest: %s", c.more, r.cfg.Window, c.last.Reason)
		}
		r.cfg.Add(c.last)
	}
}

// Close writes what was counted. What is added later is dropped.
func (r *Recorder) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	r.sum()
}
