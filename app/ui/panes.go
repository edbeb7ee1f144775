package ui

import (
	"fmt"
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"capsid/app/session"
	"capsid/guest/control"
)

// openSession brings a session's terminals to the front, opening their tabs if there are none.
func (w *Window) openSession(id string) {
	s := w.sessions[id]
	if s == nil {
		return
	}
	s.bell = false
	if w.active != nil && w.active.s == s {
		w.focusTerminal()
		return
	}
	for _, p := range w.panes {
		if p.s == s {
			w.selectPane(p)
			return
		}
	}
	main := w.addPane(s, session.MainTerminal)
	for _, t := range s.st.Terminals {
		if t.Running && t.Name != session.MainTerminal {
			w.addPane(s, t.Name)
		}
	}
	w.selectPane(main)
}

// openBeside opens a session right of another's tabs.
func (w *Window) openBeside(s, other *live) {
	w.openSession(s.id)
	at := slices.Index(w.panes, w.active)
	p := w.active
	w.panes = slices.Delete(w.panes, at, at+1)
	at = len(w.panes)
	for i, o := range w.panes {
		if o.s == other {
			at = i + 1
		}
	}
	w.panes = slices.Insert(w.panes, at, p)
	w.showTabs()
	w.strip.reveal(p.tab)
}

func (w *Window) addPane(s *live, name string) *pane {
	p := newPane(w, s, name)
	// Beside the session's other tabs.
	at := len(w.panes)
	for i, o := range w.panes {
		if o.s == s {
			at = i + 1
		}
	}
	w.panes = slices.Insert(w.panes, at, p)
	w.showTabs()
	return p
}

func (w *Window) showTabs() {
	var tabs []*tab
	for _, p := range w.panes {
		tabs = append(tabs, p.tab)
	}
	w.strip.set(tabs)
}

// selectPane brings a tab to the front.
func (w *Window) selectPane(p *pane) {
	w.active = p
	for _, o := range w.panes {
		if sel := o == p; o.tab.selected != sel {
			o.tab.selected = sel
			o.tab.Refresh()
		}
	}
	var front fyne.CanvasObject = w.welcome.root
	if p != nil {
		front = p.root
		p.tab.bell, p.s.bell = false, false
		p.tab.Refresh()
		p.refresh()
		w.readHistory(p.s)
		w.strip.reveal(p.tab)
	}
	w.centre.Objects = []fyne.CanvasObject{canvas.NewRectangle(colTerminal), front}
	w.centre.Refresh()
	w.egress.show(w.current())
	w.work.show(w.current())
	w.showSessions()
	w.title()
	w.menu()
	w.focusTerminal()
}

// closePane takes a tab away; its terminal goes on in the machine.
func (w *Window) closePane(p *pane) {
	i := slices.Index(w.panes, p)
	if i < 0 {
		return
	}
	p.detach()
	w.panes = slices.Delete(w.panes, i, i+1)
	w.showTabs()
	if w.active != p {
		return
	}
	if len(w.panes) == 0 {
		w.selectPane(nil)
		return
	}
	w.selectPane(w.panes[min(i, len(w.panes)-1)])
}

// step moves along the tabs.
func (w *Window) step(by int) {
	if len(w.panes) == 0 {
		return
	}
	i := slices.Index(w.panes, w.active)
	w.selectPane(w.panes[((i+by)%len(w.panes)+len(w.panes))%len(w.panes)])
}

// focusTerminal gives the keyboard back to the terminal in front.
func (w *Window) focusTerminal() {
	if w.active != nil {
		w.active.focus()
	}
}

// seen: the window came to the front, so what rang in the tab in front is seen.
func (w *Window) seen() {
	if w.active != nil {
		w.active.tab.bell, w.active.s.bell = false, false
		w.active.tab.Refresh()
	}
}

// newShellTab opens another shell in the machine in front, or asks for a new session where there is none.
func (w *Window) newShellTab() {
	s := w.current()
	if s == nil || s.st.State != session.Running {
		for _, a := range w.agents {
			if a.Name == "shell" {
				w.newSession(a)
			}
		}
		return
	}
	taken := map[string]bool{}
	for _, t := range s.st.Terminals {
		taken[t.Name] = true
	}
	for _, p := range w.panes {
		if p.s == s {
			taken[p.name] = true
		}
	}
	name := ""
	for n := 1; name == "" || taken[name]; n++ {
		name = fmt.Sprintf("shell-%d", n)
	}
	w.openShell(s, name, func() { w.selectPane(w.addPane(s, name)) })
}

// openShell starts a shell in a named terminal of the machine, then calls then.
func (w *Window) openShell(s *live, name string, then func()) {
	spec := control.TerminalSpec{Name: name, Command: []string{"bash", "-l"}, Dir: s.st.Workspace, Cols: 80, Rows: 24}
	if w.active != nil && w.active.term != nil {
		spec.Cols, spec.Rows = w.active.term.Grid()
	}
	client := w.engine.Client(s.id)
	w.spawn(func() {
		err := client.OpenTerminal(w.ctx, spec)
		w.do(func() {
			if err != nil {
				w.showError("No shell could be opened in "+s.st.Name, err, nil)
				return
			}
			then()
		})
	})
}
