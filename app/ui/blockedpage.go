package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"capsid/app/ui/traffic"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// blockedPage lists what was refused and waits for a decision, grouped by registrable domain, the latest first.
type blockedPage struct {
	w     *Window
	root  fyne.CanvasObject
	list  *widget.List
	note  *fyne.Container
	data  *traffic.Blocked
	cards []traffic.Card
}

func newBlockedPage(w *Window) *blockedPage {
	p := &blockedPage{w: w, note: container.NewCenter()}
	p.list = widget.NewList(func() int { return len(p.cards) },
		func() fyne.CanvasObject {
			k := newCard(w)
			w.probe.add("card", k, k.name)
			return k
		},
		func(i widget.ListItemID, o fyne.CanvasObject) {
			if i < len(p.cards) {
				o.(*card).set(p.cards[i], w.now())
			}
		})
	p.list.HideSeparators = true
	p.list.OnSelected = func(i widget.ListItemID) { p.list.Unselect(i) }
	p.root = container.NewStack(container.NewThemeOverride(p.list, &cardTheme{denseTheme{w.theme}}), p.note)
	p.show(nil)
	return p
}

func (p *blockedPage) show(b *traffic.Blocked) {
	if p.data != b {
		p.list.ScrollToTop()
	}
	p.data = b
	p.refresh()
}

func (p *blockedPage) refresh() {
	p.cards = nil
	if p.data != nil {
		p.cards = p.data.Cards(p.w.now())
	}
	if len(p.cards) == 0 {
		p.note.Objects = []fyne.CanvasObject{notice("Nothing is blocked", "A host that no rule allows shows here as soon as a program asks for it. You can then let it through with one click.")}
		p.note.Show()
		p.note.Refresh()
	} else {
		p.note.Hide()
	}
	p.list.Refresh()
}

// cardTheme takes the hover colour of list rows away: cards have buttons of their own.
type cardTheme struct{ denseTheme }

// decide records a decision about a group and puts it in force.
func (w *Window) decide(g ledger.Group, action, scope string, hosts []string) {
	s := w.current()
	if s == nil || len(hosts) == 0 {
		return
	}
	client := w.engine.Client(s.id)
	s.blocked.Begin(g.Domain, traffic.Mark{Action: action, Scope: scope, Hosts: hosts})
	w.egress.refreshBlocked()
	w.spawn(func() {
		var err error
		for _, h := range hosts {
			if err = client.Decide(w.ctx, h, action, scope); err != nil {
				break
			}
		}
		s.blocked.End(g.Domain, w.now(), err)
		groups, listErr := client.Blocked(w.ctx)
		if listErr == nil {
			s.blocked.Set(groups)
		}
		w.do(func() {
			if err != nil {
				w.note(err.Error(), true)
			} else {
				w.note(markText(traffic.Mark{Action: action, Scope: scope, At: w.now()})+": "+g.Domain, false)
			}
			w.changed(s)
		})
	})
	w.focusTerminal()
}

// cardMenu offers what the buttons of a card do not.
func (w *Window) cardMenu(k *card) {
	g := k.c.Group
	var items []*fyne.MenuItem
	add := func(label string, action, scope string, hosts ...string) {
		items = append(items, fyne.NewMenuItem(label, func() { w.decide(g, action, scope, hosts) }))
	}
	if len(g.Hosts) > 1 {
		for _, h := range g.Hosts[:min(len(g.Hosts), 8)] {
			if !policy.IsPrivateHost(h.Host) {
				add("Allow "+traffic.Pattern(h)+" alone for this session", "allow", "session", traffic.Pattern(h))
			}
		}
		items = append(items, fyne.NewMenuItemSeparator())
	}
	wide := []string{g.Domain, "*." + g.Domain}
	add("Allow everything below "+g.Domain+" for this session", "allow", "session", wide...)
	if w.hasWorkspace() {
		add("Allow everything below "+g.Domain+" for this project", "allow", "project", wide...)
	}
	items = append(items, fyne.NewMenuItemSeparator())
	if w.hasWorkspace() {
		add("Block for this project", "block", "project", traffic.Patterns(g, "block")...)
	}
	add("Block always", "block", "always", traffic.Patterns(g, "block")...)
	items = append(items, fyne.NewMenuItemSeparator(), fyne.NewMenuItem("Copy the host", func() { w.copyText(g.Domain) }))
	w.popUp(fyne.NewMenu("", items...), w.below(k.more))
}
