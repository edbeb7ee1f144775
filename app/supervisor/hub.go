package supervisor

import (
	"sync"

	"capsid/app/session"
	"capsid/proxy/ledger"
)

// maxQueued bounds the events that wait for one client. Statuses do not count: only the last one waits.
const maxQueued = 2048

// hub spreads events to any number of clients, none of which can hold up the others or the session.
type hub struct {
	mu      sync.Mutex
	last    session.Status
	clients map[*feed]struct{}
	closed  bool
}

func newHub() *hub { return &hub{clients: map[*feed]struct{}{}} }

// feed is the queue of one client.
type feed struct {
	hub    *hub
	wake   chan struct{} // has a value when there may be something to take
	status *session.Status
	queue  []session.Event
	closed bool
}

// subscribe returns a feed that begins with the last status.
func (h *hub) subscribe() *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.last
	f := &feed{hub: h, wake: make(chan struct{}, 1), status: &st, closed: h.closed}
	h.clients[f] = struct{}{}
	f.poke()
	return f
}

func (h *hub) status(st session.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = st
	for f := range h.clients {
		f.status = &st
		f.poke()
	}
}

func (h *hub) entry(e ledger.Entry) {
	h.queue(session.Event{Kind: session.LedgerEvent, Entry: &e})
}

func (h *hub) notice(n session.Notice) {
	h.queue(session.Event{Kind: session.NoticeEvent, Notice: &n})
}

func (h *hub) queue(e session.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.clients {
		if len(f.queue) == maxQueued {
			f.queue = f.queue[1:]
		}
		f.queue = append(f.queue, e)
		f.poke()
	}
}

// close lets each client take what is queued, and then ends its feed.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for f := range h.clients {
		f.closed = true
		f.poke()
	}
}

func (f *feed) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what is queued, the status first, and whether more can come.
func (f *feed) take() (events []session.Event, more bool) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	if f.status != nil {
		events = append(events, session.Event{Kind: session.StatusEvent, Status: f.status})
	}
	events = append(events, f.queue...)
	f.status, f.queue = nil, nil
	return events, !f.closed
}

func (f *feed) unsubscribe() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	delete(f.hub.clients, f)
}
