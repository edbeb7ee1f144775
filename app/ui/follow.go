package ui

import (
	"errors"
	"slices"
	"strings"
	"time"

	"capsid/app/session"
	"capsid/app/ui/traffic"
	"capsid/proxy/ledger"
)

const (
	// redraw is how long changes are gathered before lists are drawn again.
	redraw = 80 * time.Millisecond
	// reask is how long refusals are gathered before the supervisor is asked what is pending.
	reask = 250 * time.Millisecond
	// again is how long a lost stream of events is left alone.
	again = time.Second
)

// load asks for what the window needs once: the kinds of session and whether there is an image.
func (w *Window) load() {
	agents, err := w.engine.Agents()
	w.do(func() {
		w.agents = agents
		w.sidebar.setAgents(agents)
		w.welcome.refresh()
		for _, p := range w.panes {
			p.refresh() // tabs that were opened first have their marks now
		}
		w.menu()
		if err != nil {
			w.showError("The kinds of session could not be read", err, nil)
		}
	})
	w.checkImage()
	w.lookAtBackends()
}

// lookAtBackends asks what can run machines here.
func (w *Window) lookAtBackends() {
	found := w.engine.Backends()
	w.do(func() {
		w.backends = found
		w.showBacking()
	})
}

// checkImage looks whether new sessions have an image to start from.
func (w *Window) checkImage() {
	_, err := w.engine.Image()
	w.do(func() {
		w.noImage = errors.Is(err, ErrNoImage)
		w.welcome.refresh()
	})
}

// watch keeps the list of sessions up to date.
func (w *Window) watch() {
	changes, err := w.engine.Watch(w.ctx)
	w.reload()
	if err != nil {
		w.do(func() { w.showError("Sessions cannot be watched", err, nil) })
		return
	}
	for range changes {
		w.reload()
	}
}

// reload runs away from the UI goroutine.
func (w *Window) reload() {
	list, err := w.engine.List()
	w.do(func() {
		if err != nil {
			w.note(err.Error(), true)
			return
		}
		w.setSessions(list)
	})
}

// tick brings times such as "2 min ago" up to date.
func (w *Window) tick() {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-t.C:
			w.do(func() {
				w.showSessions()
				if w.egress.page == pageBlocked || w.egress.page == pageSnapshots {
					w.egress.refresh()
				}
				w.egress.refreshBadge()
				if w.now().Sub(w.noticeAt) > 20*time.Second {
					w.status.setNotice("", false)
				}
			})
		}
	}
}

// setSessions takes up what the store says.
func (w *Window) setSessions(list []session.Status) {
	found := map[string]bool{}
	for _, st := range list {
		found[st.ID] = true
		s := w.session(st)
		if !s.following || !living(st.State) {
			w.update(s, st)
		}
		if living(st.State) && !s.following {
			w.follow(s)
		}
	}
	for id, s := range w.sessions {
		if !found[id] && s.cancel == nil && !(s.ghost && w.hasPane(s)) {
			w.drop(s)
		}
	}
	if !w.loaded {
		w.loaded = true
		w.findAgain()
	}
	w.showSessions()
}

// findAgain opens a tab for each terminal of the sessions that were running before the window was.
func (w *Window) findAgain() {
	for _, s := range w.ordered() {
		if living(s.st.State) {
			w.openSession(s.id)
		}
	}
	if len(w.panes) > 0 {
		w.selectPane(w.panes[len(w.panes)-1])
	}
}

func living(s session.State) bool {
	return s == session.Starting || s == session.Running || s == session.Paused
}

// session returns what the window keeps of a session, made when it is new.
func (w *Window) session(st session.Status) *live {
	s := w.sessions[st.ID]
	if s == nil {
		s = &live{id: st.ID, st: st, traffic: traffic.NewLive(0)}
		w.sessions[st.ID] = s
		w.order = append(w.order, s)
		w.egress.tree.reload()
	}
	return s
}

// drop forgets a session that is gone, with its tabs.
func (w *Window) drop(s *live) {
	delete(w.sessions, s.id)
	w.order = slices.DeleteFunc(w.order, func(o *live) bool { return o == s })
	for _, p := range slices.Clone(w.panes) {
		if p.s == s {
			w.closePane(p)
		}
	}
	w.egress.tree.reload()
}

func (w *Window) hasPane(s *live) bool {
	return slices.ContainsFunc(w.panes, func(p *pane) bool { return p.s == s })
}

// update takes up a session's new status.
func (w *Window) update(s *live, st session.Status) {
	was := s.st
	s.st = st
	for _, p := range w.panes {
		if p.s == s {
			p.refresh()
		}
	}
	if was.State != st.State || was.Work != nil && st.Work == nil {
		w.egress.tree.reload()
	}
	w.showWork(s)
	if was.Blocked != st.Blocked {
		w.askBlocked(s)
	}
	if w.current() == s {
		if was.State != st.State {
			w.menu()
		}
		w.showBacking()
		w.egress.about.refresh()
	}
	if st.State == session.Failed && was.State != session.Failed && living(was.State) && s.cancel == nil && !s.ghost && w.loaded {
		w.showFailure(st)
	}
}

// changed draws again what shows a session.
func (w *Window) changed(s *live) {
	if w.current() == s {
		w.egress.refresh()
	}
	w.showSessions()
}

// ordered: the living first, the oldest at the top; then the others. Among each, forks stand below what they were forked from.
func (w *Window) ordered() []*live {
	list := slices.Clone(w.order)
	slices.SortStableFunc(list, func(a, b *live) int {
		if la, lb := living(a.st.State), living(b.st.State); la != lb {
			if la {
				return -1
			}
			return 1
		}
		if c := a.st.Created.Compare(b.st.Created); c != 0 {
			return c
		}
		return strings.Compare(a.st.Name, b.st.Name)
	})
	return families(list)
}

// families puts forks below their parents, as far as both are living or both are not.
func families(list []*live) []*live {
	byID := map[string]*live{}
	for _, s := range list {
		byID[s.id] = s
	}
	parent := func(s *live) *live {
		if s.st.Parent == nil {
			return nil
		}
		p := byID[s.st.Parent.Session]
		if p == s || p == nil || living(p.st.State) != living(s.st.State) {
			return nil
		}
		return p
	}
	below := map[*live][]*live{}
	for _, s := range list {
		below[parent(s)] = append(below[parent(s)], s)
	}
	var out []*live
	var add func(s *live, depth int)
	add = func(s *live, depth int) {
		siblings := below[parent(s)]
		s.depth, s.last = depth, siblings[len(siblings)-1] == s
		out = append(out, s)
		for _, c := range below[s] {
			add(c, depth+1)
		}
	}
	for _, s := range below[nil] {
		add(s, 0)
	}
	if len(out) < len(list) {
		return list // files that name one another as parents
	}
	return out
}

func (w *Window) showSessions() {
	var list []session.Status
	for _, s := range w.ordered() {
		list = append(list, s.st)
	}
	selected := ""
	if s := w.current(); s != nil {
		selected = s.id
	}
	w.sidebar.set(list, selected)
	w.welcome.refresh()
	w.showBacking()
}

// showBacking says in the status bar what runs the machine in front, or what will run the next one.
func (w *Window) showBacking() {
	text := w.backends.Line
	if s := w.current(); s != nil && s.st.Backing != "" {
		text = s.st.Name + " · " + s.st.Backing
	}
	w.status.setBacking(text)
}

// follow keeps one session up to date from its supervisor's events. It runs on the UI goroutine; the stream is read on one of its own.
func (w *Window) follow(s *live) {
	s.following = true
	id := s.id
	client := w.engine.Client(id)
	w.spawn(func() {
		w.readEvents(s, client)
		// The stream may end while the session lives: its supervisor fell behind, or is about to end. The store knows.
		timer := time.NewTimer(again)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-w.ctx.Done():
			return
		}
		w.do(func() { s.following = false })
		w.reload()
	})
}

func (w *Window) readEvents(s *live, client Client) {
	events, err := client.Events(w.ctx)
	if err != nil {
		return
	}
	w.catchUp(s, client)
	w.readBlocked(s, client)
	draw := func() { w.do(func() { w.changed(s) }) }
	for e := range events {
		switch {
		case e.Status != nil:
			st := *e.Status
			w.do(func() {
				w.update(s, st)
				w.showSessions()
			})
		case e.Entry != nil:
			if last := s.traffic.Last(); last != 0 && e.Entry.ID > last+1 {
				w.catchUp(s, client) // events were lost: the ledger has them
			}
			s.traffic.Put(*e.Entry)
			s.gate.poke(redraw, draw)
			if e.Entry.Decision != ledger.Allow {
				w.askBlocked(s)
			}
		case e.Notice != nil:
			n := *e.Notice
			w.do(func() { w.note(n.Text, n.Level == "error") })
		}
	}
}

// catchUp reads the rows that are not known yet.
func (w *Window) catchUp(s *live, client Client) {
	rows, err := client.Ledger(w.ctx, ledger.Query{After: s.traffic.Last(), Limit: traffic.DefaultRows})
	if err != nil {
		return
	}
	s.traffic.Put(rows...)
	s.gate.poke(redraw, func() { w.do(func() { w.changed(s) }) })
}

// askBlocked asks soon what is pending, once for many refusals.
func (w *Window) askBlocked(s *live) {
	client := w.engine.Client(s.id)
	s.asked.poke(reask, func() {
		if w.ctx.Err() == nil {
			w.readBlocked(s, client)
		}
	})
}

func (w *Window) readBlocked(s *live, client Client) {
	groups, err := client.Blocked(w.ctx)
	if err != nil {
		return
	}
	s.blocked.Set(groups)
	w.do(func() { w.changed(s) })
}

// readHistory shows what a session that no longer runs had asked for.
func (w *Window) readHistory(s *live) {
	if s.history || living(s.st.State) {
		return
	}
	s.history = true
	id := s.id
	w.spawn(func() {
		rows, err := w.engine.Ledger(id, ledger.Query{Limit: traffic.DefaultRows})
		if err != nil {
			return // a session that never got so far has no ledger
		}
		s.traffic.Put(rows...)
		w.do(func() { w.changed(s) })
	})
}
