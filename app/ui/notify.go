package ui

import (
	"time"

	"fyne.io/fyne/v2"
)

// quietTime is the least time between two notifications of one window: a program in a machine may ring as it likes.
const quietTime = 3 * time.Second

// rang: the program in a terminal rang the bell or asks for attention. What is in front of the person's eyes needs no notice.
func (w *Window) rang(p *pane, title, body string) {
	if w.focused && w.active == p {
		return
	}
	p.tab.bell, p.s.bell = true, true
	p.tab.Refresh()
	w.showSessions()
	if w.focused {
		return
	}
	if now := w.now(); now.Sub(w.rangAt) < quietTime {
		return
	}
	w.rangAt = w.now()
	if body == "" {
		body = title
	}
	if body == "" {
		body = "It has finished, or waits for you."
	}
	note := fyne.NewNotification(p.title(), body)
	w.spawn(func() { w.app.SendNotification(note) })
}
