package ui

import (
	"context"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"capsid/app/session"
	"capsid/app/ui/traffic"
)

// task is something long that this window has asked for of a session.
type task struct {
	text   string
	cancel context.CancelFunc
	given  bool // up: the person has cancelled it
}

// long runs a call that takes long, with a Cancel button in sight while it does. done is told on the UI goroutine that it went well; failed is the title of an error.
func (w *Window) long(s *live, text, failed string, call func(ctx context.Context) error, done func()) {
	if busy := s.busy(); busy != "" {
		w.note(s.st.Name+" is busy: "+busy+". Wait for its end, or cancel it", true)
		return
	}
	ctx, cancel := context.WithCancel(w.ctx)
	t := &task{text: text, cancel: cancel}
	s.task = t
	w.note("", false)
	w.showWork(s)
	w.spawn(func() {
		err := call(ctx)
		cancel()
		w.do(func() {
			// The answer is newer than what the stream of events has said so far.
			s.task, s.cancel, s.st.Work = nil, nil, nil
			w.showWork(s)
			switch {
			case err == nil:
				done()
			case t.given:
				w.note("Cancelled: "+text, false)
			default:
				w.showError(failed, err, nil)
			}
			w.egress.tree.reload()
		})
		w.reload()
	})
}

// busy says what takes long in a session, empty when nothing does.
func (s *live) busy() string {
	switch {
	case s.task != nil:
		return s.task.text
	case s.st.Work != nil:
		return s.st.Work.Name
	}
	return ""
}

func (w *Window) cancelTask(s *live) {
	if s != nil && s.task != nil {
		s.task.given = true
		s.task.cancel()
	}
}

// showWork draws what takes long in the session in front, if it is this one.
func (w *Window) showWork(s *live) {
	if w.current() == s {
		w.work.show(s)
		w.egress.tree.refresh()
	}
}

// workCard stands over the corner of the terminal while something takes long: over it, so that the terminal need not change its size twice.
type workCard struct {
	root         fyne.CanvasObject
	panel        *fyne.Container
	title, stage *canvas.Text
	line, done   *canvas.Rectangle
	stop         *button
	part         float32 // of the line that is done, 0 to 1
}

func newWorkCard(w *Window) *workCard {
	c := &workCard{title: boldText("", colText, textBody), stage: newText("", colDim, textSmall), line: fill(colLine, 1), done: fill(colAccent, 1)}
	c.stop = w.button("Cancel", plain, func() { w.cancelTask(w.current()) }).asSmall()
	c.stop.hint = "Leave everything as it was"
	back := fill(rgb(0x1e232b), 8)
	back.StrokeColor, back.StrokeWidth = colLine, 1
	c.panel = container.New(c, back, c.title, c.stage, c.line, c.done, c.stop)
	c.panel.Hide()
	w.probe.add("text", c.panel, func() string { return "work: " + c.text() })
	c.root = container.New(corner{12}, c.panel)
	return c
}

func (c *workCard) text() string { return c.title.Text + " " + c.stage.Text }

// show takes up what a session is doing; nil is none.
func (c *workCard) show(s *live) {
	if s == nil || s.busy() == "" || s.st.State == session.Starting {
		if c.panel.Visible() {
			c.panel.Hide()
			c.root.Refresh()
		}
		return
	}
	title, stage, part := s.busy(), "", float32(0)
	if k := s.st.Work; k != nil {
		stage = k.Stage
		if k.Total > 0 {
			part = float32(min(float64(k.Done)/float64(k.Total), 1))
			stage += ", " + traffic.Size(k.Done) + " of " + traffic.Size(k.Total)
		}
	}
	c.title.Text, c.stage.Text, c.part = sentence(title), stage, part
	show(c.stop, s.task != nil) // what another program asked for is not this window's to cancel
	c.panel.Show()
	c.panel.Refresh()
	c.root.Refresh()
}

// MinSize is called by Fyne.
func (c *workCard) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.NewSize(340, 58) }

// Layout is called by Fyne.
func (c *workCard) Layout(o []fyne.CanvasObject, size fyne.Size) {
	o[0].Resize(size)
	stop := c.stop.MinSize()
	c.stop.Resize(stop)
	c.stop.Move(fyne.NewPos(size.Width-stop.Width-12, 12))
	room := size.Width - stop.Width - 34
	fit(c.title, c.title.Text, room)
	place(c.title, 12, 8, 20)
	fit(c.stage, c.stage.Text, room)
	place(c.stage, 12, 27, 16)
	c.line.Move(fyne.NewPos(12, size.Height-9))
	c.line.Resize(fyne.NewSize(size.Width-24, 3))
	c.done.Move(fyne.NewPos(12, size.Height-9))
	c.done.Resize(fyne.NewSize((size.Width-24)*c.part, 3))
}

// corner puts its objects at their own sizes into the upper right corner.
type corner struct{ gap float32 }

// Layout is called by Fyne.
func (k corner) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	for _, o := range objects {
		m := o.MinSize()
		m.Width = min(m.Width, size.Width-2*k.gap)
		o.Resize(m)
		o.Move(fyne.NewPos(size.Width-m.Width-k.gap, k.gap))
	}
}

// MinSize is called by Fyne: what lies below has its own.
func (k corner) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.Size{} }
