package ui

import (
	"fmt"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
	"capsid/app/terminal"
)

// pane is one tab of the middle: a terminal of a session, or what stands in its place while the session starts or when it has ended.
type pane struct {
	w    *Window
	s    *live
	name string // of the terminal in the machine
	tab  *tab
	root *fyne.Container
	term *terminal.Terminal
	view string // what root shows: start, terminal, gone
	foot *fyne.Container

	conn      TerminalConn
	attaching bool
	attached  int // counts connections, so that the end of an earlier one is told apart
	ended     bool
	exit      int
	lost      string
	heading   string // the title that the program gave
	start     *startView
}

func newPane(w *Window, s *live, name string) *pane {
	p := &pane{w: w, s: s, name: name, root: container.NewStack(), tab: newTab(), foot: container.NewStack()}
	p.foot.Hide()
	p.tab.onTap = func() { w.selectPane(p) }
	p.tab.onClose = func() { w.closePane(p) }
	p.tab.onMenu = func(at fyne.Position) { w.sessionMenu(s.id, at) }
	p.tab.onHint = w.hint
	w.probe.add("tab", p.tab, func() string { return p.tab.title })
	p.refresh()
	return p
}

// title is the tab's text.
func (p *pane) title() string {
	if p.name == session.MainTerminal {
		return p.s.st.Name
	}
	return p.s.st.Name + " · " + p.name
}

// refresh shows what the session's state asks for.
func (p *pane) refresh() {
	st := p.s.st
	p.tab.title, p.tab.dot, p.tab.mark = p.title(), stateColor(st.State), p.w.mark(st.Agent)
	if p.name != session.MainTerminal {
		p.tab.mark = p.w.mark("shell")
	}
	p.tab.Refresh()
	switch {
	case st.State == session.Starting:
		if p.term != nil {
			// It starts again, from a snapshot: what the terminal shows then is the machine's to say.
			p.detach()
			p.term, p.ended, p.lost = nil, false, ""
			p.foot.Hide()
		}
		if p.view != "start" {
			p.view, p.start = "start", newStartView(p)
			p.fill(p.start.root)
		}
		p.start.refresh()
	case living(st.State):
		p.showTerminal()
	case p.term != nil:
		p.showTerminal() // its last words stay readable
		p.showFoot()
	default:
		if key := "gone" + string(st.State) + st.Error; p.view != key {
			p.view = key
			p.fill(newGoneView(p))
		}
	}
}

func (p *pane) fill(o fyne.CanvasObject) {
	if p.start != nil && p.view != "start" {
		p.start.bar.Stop() // an animation that nobody sees is still drawn
		p.start = nil
	}
	p.root.Objects = []fyne.CanvasObject{o}
	p.root.Refresh()
}

func (p *pane) showTerminal() {
	if p.term == nil {
		p.term = terminal.New(terminal.Options{FontSize: p.w.fontSize})
		p.term.OnTitle = func(t string) { p.heading = t; p.w.title() }
		p.term.OnBell = func() { p.w.rang(p, "", "") }
		p.term.OnNotify = func(title, body string) { p.w.rang(p, title, body) }
		p.term.OnEnd = func(err error) { p.streamEnded(err) }
		p.term.OnLink = p.w.askLink
		p.term.OnClipboard = func(text string, allow func()) { p.w.askClipboard(p, text, allow) }
		p.w.probe.add("terminal", p.term, func() string { return p.title() + "\n" + p.term.Text() })
	}
	if p.view != "terminal" {
		p.view = "terminal"
		p.fill(container.NewBorder(nil, p.foot, nil, nil, container.New(bar{6, 4, 0, 0}, p.term)))
	}
	if p.w.active == p {
		p.attach()
	}
}

// attach connects the terminal, if it is not. The machine may take its time: it is asked on a goroutine of its own.
func (p *pane) attach() {
	if p.conn != nil || p.attaching || p.ended || p.term == nil || !living(p.s.st.State) || p.s.st.State == session.Starting {
		return
	}
	p.attaching = true
	cols, rows := p.term.Grid()
	client := p.w.engine.Client(p.s.id)
	p.w.spawn(func() {
		conn, err := client.Terminal(p.w.ctx, p.name, cols, rows)
		p.w.do(func() {
			p.attaching = false
			if err != nil {
				p.lost = err.Error()
				p.showFoot()
				return
			}
			p.lost = ""
			p.hideFoot()
			p.conn = conn
			p.attached++
			p.term.Attach(conn)
			if p.w.active == p {
				p.focus()
			}
			p.awaitExit(conn, p.attached)
		})
		if err == nil && p.w.ctx.Err() != nil {
			conn.Close()
		}
	})
}

func (p *pane) awaitExit(conn TerminalConn, turn int) {
	p.w.spawn(func() {
		select {
		case code := <-conn.Exit():
			p.w.do(func() {
				if p.attached == turn {
					p.ended, p.exit = true, code
					p.showFoot()
				}
			})
		case <-p.w.ctx.Done():
		}
	})
}

// streamEnded: the program has ended, or the connection was lost.
func (p *pane) streamEnded(err error) {
	p.conn = nil
	if !p.ended && err != nil {
		p.lost = err.Error()
	}
	p.showFoot()
}

func (p *pane) detach() {
	if p.term != nil {
		p.term.Detach()
	}
	p.conn = nil
}

func (p *pane) focus() {
	if p.term != nil && p.view == "terminal" && len(p.w.dialogs) == 0 {
		if f, ok := any(p.term).(fyne.Focusable); ok {
			p.w.win.Canvas().Focus(f)
		}
	}
}

// showFoot says below the terminal why nothing more will come, and offers what can be done.
func (p *pane) showFoot() {
	st := p.s.st
	var text string
	var buttons []fyne.CanvasObject
	again := func(label string) {
		buttons = append(buttons, p.w.button(label, loud, p.restart).asSmall())
	}
	switch {
	case !living(st.State) && p.s.task != nil:
		text = p.s.task.text + "…"
	case st.State == session.Suspended:
		text = "The session is suspended."
		buttons = append(buttons, p.w.button("Resume", loud, func() { p.w.wake(p.s) }).asSmall())
	case !living(st.State):
		text = "The session has " + string(st.State) + "."
		if st.Error != "" {
			text = "The session has " + string(st.State) + ": " + st.Error
		}
		buttons = append(buttons, p.w.button("Remove…", quiet, func() { p.w.askRemove(p.s) }).asSmall())
	case p.ended:
		text = fmt.Sprintf("%s has ended with status %d.", p.program(), p.exit)
		if p.exit == 0 {
			text = p.program() + " has ended."
		}
		again("Start again")
	case p.lost != "":
		text = "The connection to the terminal was lost: " + p.lost
		again("Connect again")
	case p.conn == nil && !p.attaching:
		text = "The terminal is not connected."
		again("Connect again")
	default:
		p.hideFoot()
		return
	}
	buttons = append(buttons, p.w.button("Close tab", quiet, func() { p.w.closePane(p) }).asSmall())
	l := widget.NewLabel(text)
	l.Truncation = fyne.TextTruncateEllipsis
	p.foot.Objects = []fyne.CanvasObject{canvas.NewRectangle(colPanel),
		container.New(bar{8, 4, 8, 4}, container.NewBorder(nil, nil, nil, container.NewHBox(buttons...), l))}
	p.foot.Show()
	p.root.Refresh()
}

func (p *pane) hideFoot() {
	if p.foot.Visible() {
		p.foot.Hide()
		p.root.Refresh()
	}
}

// program is what runs in the terminal, for a person.
func (p *pane) program() string {
	if p.name != session.MainTerminal {
		return "The shell"
	}
	return strings.ToUpper(p.s.st.Agent[:1]) + p.s.st.Agent[1:]
}

// restart starts the program anew, or connects again.
func (p *pane) restart() {
	wasEnded := p.ended
	p.ended, p.lost = false, ""
	p.hideFoot()
	if !wasEnded || p.name == session.MainTerminal {
		p.attach()
		return
	}
	p.w.openShell(p.s, p.name, func() { p.attach() })
}
