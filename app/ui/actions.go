package ui

import (
	"net/url"
	"os/exec"

	"fyne.io/fyne/v2"

	"capsid/app/session"
)

// sessionMenu offers what can be done with a session.
func (w *Window) sessionMenu(id string, at fyne.Position) {
	if s := w.sessions[id]; s != nil {
		w.popUp(w.menuOf(s), at)
	}
}

func (w *Window) menuOf(s *live) *fyne.Menu {
	id, st := s.id, s.st
	item := func(label string, enabled bool, f func()) *fyne.MenuItem {
		it := fyne.NewMenuItem(label, f)
		it.Disabled = !enabled
		return it
	}
	alive := living(st.State)
	items := []*fyne.MenuItem{
		item("Open", true, func() { w.openSession(id) }),
		item("Open a shell in it", st.State == session.Running, func() { w.openSession(id); w.newShellTab() }),
	}
	if st.State == session.Suspended {
		items = append(items, item("Resume", s.busy() == "", func() { w.wake(s) }))
	} else if st.State == session.Paused {
		items = append(items, item("Resume", true, func() { w.resume(s) }))
	} else {
		items = append(items, item("Pause", st.State == session.Running, func() { w.pause(s) }))
	}
	items = append(items,
		item("Suspend to disk", canSuspend(s), func() { w.openSession(id); w.suspend(s) }),
		fyne.NewMenuItemSeparator(),
		item("Snapshot…", canKeep(s), func() { w.openSession(id); w.askSnapshot(s) }),
		item("Fork…", canKeep(s), func() { w.openSession(id); w.askForkNow(s) }),
		item("Its snapshots and forks", true, func() { w.openSession(id); w.showPage(pageSnapshots) }),
		fyne.NewMenuItemSeparator(),
		item("Open its folder", st.Workspace != "", func() { w.openFolder(st.Workspace) }),
		item("Copy the ssh command", alive, func() { w.copyText("capsid ssh " + st.Name) }),
		item("Copy its name", true, func() { w.copyText(st.Name) }),
		item("Defences and details", true, func() { w.openSession(id); w.showPage(pageAbout) }),
		fyne.NewMenuItemSeparator(),
		item("Stop…", alive, func() { w.askStop(s) }),
		item("Remove…", true, func() { w.askRemove(s) }),
	)
	return fyne.NewMenu("", items...)
}

// act runs one call of the API and tells how it went.
func (w *Window) act(s *live, doing, done string, f func(Client) error) {
	w.note(doing, false)
	client := w.engine.Client(s.id)
	w.spawn(func() {
		err := f(client)
		w.do(func() {
			if err != nil {
				w.showError(s.st.Name+": it did not work", err, nil)
				return
			}
			w.note(done, false)
		})
		w.reload()
	})
}

func (w *Window) pause(s *live) {
	w.act(s, "Pausing "+s.st.Name+"…", s.st.Name+" is paused", func(c Client) error { return c.Pause(w.ctx) })
}

func (w *Window) resume(s *live) {
	w.act(s, "Resuming "+s.st.Name+"…", s.st.Name+" runs again", func(c Client) error { return c.Resume(w.ctx) })
}

// resumeAny resumes what is paused, or suspended.
func (w *Window) resumeAny(s *live) {
	if s.st.State == session.Suspended {
		w.wake(s)
		return
	}
	w.resume(s)
}

func (w *Window) askStop(s *live) {
	w.confirm("Stop "+s.st.Name+"?", "Its machine is powered off: what runs in it ends. Files in the folder and its record of requests stay.", "Stop", danger, func() {
		w.act(s, "Stopping "+s.st.Name+"…", s.st.Name+" has stopped", func(c Client) error { return c.Kill(w.ctx) })
	})
}

func (w *Window) askRemove(s *live) {
	if s.ghost {
		w.drop(s)
		w.showSessions()
		return
	}
	text := "Its disk and its record of requests are deleted. Files in the shared folder stay."
	if living(s.st.State) {
		text = "It is running: it is stopped first. " + text
	}
	w.confirm("Remove "+s.st.Name+"?", text, "Remove", danger, func() {
		w.note("Removing "+s.st.Name+"…", false)
		w.spawn(func() {
			err := w.engine.Remove(s.id, true)
			w.do(func() {
				if err != nil {
					w.showError(s.st.Name+" could not be removed", err, nil)
					return
				}
				w.note(s.st.Name+" is removed", false)
			})
			w.reload()
		})
	})
}

// openFolder shows a folder of the host in the desktop's file manager.
func (w *Window) openFolder(dir string) {
	w.spawn(func() {
		if err := exec.CommandContext(w.ctx, "xdg-open", dir).Run(); err != nil {
			w.do(func() { w.note("No file manager could be opened; the folder is "+dir, true) })
		}
	})
}

// askLink asks before an address that a program in the machine chose is opened on the host.
func (w *Window) askLink(address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		w.note("Only http and https links are opened", true)
		return
	}
	w.confirm("Open this link in your browser?", "A program in the machine chose it. It opens on your own computer, outside the machine:\n\n"+u.String(), "Open", plain, func() {
		w.spawn(func() {
			if err := w.app.OpenURL(u); err != nil {
				w.do(func() { w.note(err.Error(), true) })
			}
		})
	})
}

// askClipboard asks before a program in the machine puts text on the host's clipboard.
func (w *Window) askClipboard(p *pane, text string, allow func()) {
	if len(w.dialogs) > 0 || w.active != p {
		return // no program may stack questions, nor ask from behind
	}
	shown := []rune(text)
	if len(shown) > 300 {
		shown = append(shown[:300], '…')
	}
	w.confirm("Let "+p.title()+" set your clipboard?", "A program in the machine wants to copy this text:\n\n"+string(shown), "Copy it", plain, allow)
}

// showPage brings a page of the right side into sight.
func (w *Window) showPage(page int) {
	w.egress.root.Show()
	w.right.Refresh()
	w.egress.open(page)
}

func (w *Window) toggleEgress() {
	show(w.egress.root, !w.egress.root.Visible())
	w.right.Refresh()
}
