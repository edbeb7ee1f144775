package ui

import (
	"runtime"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/layout"

	"capsid/app/session"
)

const (
	ctrl      = fyne.KeyModifierControl
	ctrlShift = fyne.KeyModifierControl | fyne.KeyModifierShift
)

func chord(k fyne.KeyName, m fyne.KeyModifier) fyne.Shortcut {
	return &desktop.CustomShortcut{KeyName: k, Modifier: m}
}

// agentKey is the key that starts a kind of session, for a hint.
func agentKey(name string) string {
	if k, ok := agentKeys[name]; ok {
		return "Ctrl+Shift+" + string(k)
	}
	return ""
}

var agentKeys = map[string]fyne.KeyName{"claude": fyne.Key1, "codex": fyne.Key2, "gemini": fyne.Key3, "shell": fyne.Key4}

// menu makes the menu bar. Its keys work whatever has the focus: Fyne looks there first. All of them hold Ctrl and Shift, or are
// Ctrl+Tab and the zoom keys that terminals use, so that none is taken from the programs in the terminals.
func (w *Window) menu() {
	item := func(label string, key fyne.Shortcut, f func()) *fyne.MenuItem {
		it := fyne.NewMenuItem(label, func() {
			// A dialog in front has the keyboard.
			if len(w.dialogs) == 0 {
				f()
			}
		})
		it.Shortcut = key
		return it
	}
	var start []*fyne.MenuItem
	for _, a := range w.agents {
		var key fyne.Shortcut
		if k, ok := agentKeys[a.Name]; ok {
			key = chord(k, ctrlShift)
		}
		it := item("New "+a.Title, key, func() { w.newSession(a) })
		it.Icon = w.mark(a.Name)
		start = append(start, it)
	}
	quit := item("Close the window; sessions go on", chord(fyne.KeyQ, ctrlShift), w.Close)
	quit.IsQuit = true
	start = append(start, fyne.NewMenuItemSeparator(), quit)

	s := w.current()
	with := func(it *fyne.MenuItem, ok bool) *fyne.MenuItem { it.Disabled = !ok; return it }
	running := s != nil && s.st.State == session.Running
	seat := []*fyne.MenuItem{
		item("Open a shell in it", chord(fyne.KeyT, ctrlShift), w.newShellTab),
		with(item("Close tab", chord(fyne.KeyW, ctrlShift), func() { w.closeActive() }), w.active != nil),
		fyne.NewMenuItemSeparator(),
		with(item("Pause", nil, func() { w.withCurrent(w.pause) }), running),
		with(item("Resume", nil, func() { w.withCurrent(w.resumeAny) }), s != nil && (s.st.State == session.Paused || s.st.State == session.Suspended)),
		with(item("Suspend to disk", nil, func() { w.withCurrent(w.suspend) }), canSuspend(s)),
		fyne.NewMenuItemSeparator(),
		// Never greyed out: what cannot be done now says why.
		item("Snapshot…", chord(fyne.KeyS, ctrlShift), func() { w.withCurrent(w.askSnapshot) }),
		item("Fork…", chord(fyne.KeyD, ctrlShift), func() { w.withCurrent(w.askForkNow) }),
		fyne.NewMenuItemSeparator(),
		with(item("Stop…", nil, func() { w.withCurrent(w.askStop) }), s != nil && living(s.st.State)),
		with(item("Remove…", nil, func() { w.withCurrent(w.askRemove) }), s != nil),
		fyne.NewMenuItemSeparator(),
		with(item("Copy the ssh command", nil, func() { w.withCurrent(func(s *live) { w.copyText("capsid ssh " + s.st.Name) }) }), running),
	}
	view := []*fyne.MenuItem{
		item("Next tab", chord(fyne.KeyTab, ctrl), func() { w.step(1) }),
		item("Previous tab", chord(fyne.KeyTab, ctrlShift), func() { w.step(-1) }),
		fyne.NewMenuItemSeparator(),
		item("Requests", chord(fyne.KeyL, ctrlShift), func() { w.showPage(pageLive) }),
		item("Blocked", chord(fyne.KeyB, ctrlShift), func() { w.showPage(pageBlocked) }),
		item("Snapshots and forks", chord(fyne.KeyY, ctrlShift), func() { w.showPage(pageSnapshots) }),
		item("Session details", chord(fyne.KeyI, ctrlShift), func() { w.showPage(pageAbout) }),
		item("Show or hide the right side", chord(fyne.KeyE, ctrlShift), w.toggleEgress),
		fyne.NewMenuItemSeparator(),
		item("Search in the terminal", chord(fyne.KeyF, ctrlShift), func() { w.withTerminal(func(p *pane) { p.term.ShowSearch() }) }),
		item("Filter the requests", chord(fyne.KeyK, ctrlShift), func() { w.showPage(pageLive); w.win.Canvas().Focus(w.egress.live.filter) }),
		item("Larger text", chord(fyne.KeyEqual, ctrl), func() { w.zoom(1) }),
		item("Smaller text", chord(fyne.KeyMinus, ctrl), func() { w.zoom(-1) }),
		item("Usual text", chord(fyne.Key0, ctrl), func() { w.zoom(0) }),
	}
	help := []*fyne.MenuItem{
		item("Keys and first steps", chord(fyne.KeyH, ctrlShift), w.showHelp),
		item("About Capsid", nil, w.showAbout),
	}
	w.win.SetMainMenu(fyne.NewMainMenu(fyne.NewMenu("Start", start...), fyne.NewMenu("Session", seat...), fyne.NewMenu("View", view...), fyne.NewMenu("Help", help...)))
}

// keys sets what keys do that no widget has taken.
func (w *Window) keys() {
	w.menu()
	w.win.Canvas().SetOnTypedKey(func(e *fyne.KeyEvent) {
		switch e.Name {
		case fyne.KeyEscape:
			if !w.escape() {
				w.focusTerminal()
			}
		case fyne.KeyReturn, fyne.KeyEnter:
			if n := len(w.dialogs); n > 0 && w.dialogs[n-1].accept != nil {
				w.dialogs[n-1].accept()
			}
		case fyne.KeyF1:
			if len(w.dialogs) == 0 {
				w.showHelp()
			}
		}
	})
}

func (w *Window) closeActive() {
	if w.active != nil {
		w.closePane(w.active)
	}
}

func (w *Window) withCurrent(f func(*live)) {
	if s := w.current(); s != nil {
		f(s)
	}
}

func (w *Window) withTerminal(f func(*pane)) {
	if w.active != nil && w.active.term != nil {
		f(w.active)
	}
}

// zoom changes the size of the text of all terminals; 0 is the usual one.
func (w *Window) zoom(by float32) {
	size := w.fontSize
	if size == 0 {
		size = textBody
	}
	size = min(max(size+by, 7), 36)
	if by == 0 {
		size = 0
	}
	w.fontSize = size
	for _, p := range w.panes {
		if p.term != nil {
			p.term.SetFontSize(size)
		}
	}
}

func (w *Window) showHelp() {
	keys := [][2]string{
		{"Ctrl+Shift+1 … 4", "New Claude, Codex, Gemini, Shell"},
		{"Ctrl+Shift+T", "a shell in the machine in front"},
		{"Ctrl+Tab, Ctrl+Shift+Tab", "next and previous tab"},
		{"Ctrl+Shift+W", "close the tab; the session goes on"},
		{"Ctrl+Shift+S", "snapshot of the machine in front"},
		{"Ctrl+Shift+D", "fork the machine in front"},
		{"Ctrl+Shift+L, B, Y, I", "requests, blocked, snapshots, session details"},
		{"Ctrl+Shift+E", "show or hide the right side"},
		{"Ctrl+Shift+K", "filter the requests"},
		{"Ctrl+Shift+C, V", "copy and paste in the terminal"},
		{"Ctrl+Shift+F", "search in the terminal"},
		{"Ctrl +  −  0", "size of the text"},
		{"F1, Ctrl+Shift+H", "this help"},
	}
	form := container.New(layout.NewFormLayout())
	for _, k := range keys {
		t := monoText(k[0], colAccent)
		form.Add(t)
		form.Add(newText(k[1], colText, textBody))
	}
	text := paragraph("Every session is a Linux machine of its own with your folder in it. Its only way out is a proxy on this computer: each request shows under Live, and what no rule allows waits under Blocked until you decide. " +
		"Close the window when you like: sessions go on and are there when you open it again.")
	var d *dialogBox
	d = w.dialog("Keys and first steps", nil, 520, container.New(layout.NewCustomPaddedVBoxLayout(12), text, form), w.button("Close", loud, func() { d.cancel() }))
	d.accept = d.cancel
}

func (w *Window) showAbout() {
	version := w.cfg.Version
	if version == "" {
		version = "development version"
	}
	var d *dialogBox
	text := paragraph("A machine of its own for every coding agent, and a proxy that shows and steers all that leaves it.\n\n" + version + ", " + runtime.GOOS + "/" + runtime.GOARCH + "\n" + w.backends.Line)
	d = w.dialog("Capsid", w.cfg.Icon, 420, text, w.button("Close", loud, func() { d.cancel() }))
	d.accept = d.cancel
}
