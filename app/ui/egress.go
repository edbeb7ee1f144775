package ui

import (
	"image/color"
	"strconv"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"
)

// egress is the right side: what the selected session asks of the network, what was blocked, its snapshots and forks, and what the session is.
type egress struct {
	w       *Window
	root    fyne.CanvasObject
	heads   []*pageTab
	stack   *fyne.Container
	live    *livePage
	blocked *blockedPage
	tree    *treePage
	about   *aboutPage
	page    int
}

const (
	pageLive = iota
	pageBlocked
	pageSnapshots
	pageAbout
)

func newEgress(w *Window) *egress {
	e := &egress{w: w, live: newLivePage(w), blocked: newBlockedPage(w), tree: newTreePage(w), about: newAboutPage(w)}
	for i, title := range []string{"Live", "Blocked", "Snapshots", "Session"} {
		t := &pageTab{title: title, tapped: func() { e.open(i) }}
		t.ExtendBaseWidget(t)
		w.probe.add("tab", t, t.name)
		e.heads = append(e.heads, t)
	}
	e.stack = container.NewStack(e.live.root, e.blocked.root, e.tree.root, e.about.root)
	heads := container.New(row{gap: 2})
	for _, t := range e.heads {
		heads.Add(t)
	}
	e.root = container.NewStack(canvas.NewRectangle(colBackground), container.NewBorder(
		container.NewStack(canvas.NewRectangle(colPanel), container.New(bar{6, 0, 0, 0}, heads)), nil, nil, nil, e.stack))
	e.open(pageLive)
	return e
}

func (e *egress) open(page int) {
	e.page = page
	for i, t := range e.heads {
		t.selected = i == page
		t.Refresh()
		show(e.stack.Objects[i], i == page)
	}
	if page == pageSnapshots {
		e.tree.reload() // another program may have removed some
	}
	e.refresh()
}

// show turns to another session; nil shows none.
func (e *egress) show(s *live) {
	if s == nil {
		e.live.show(nil)
		e.blocked.show(nil)
		e.tree.show(nil)
		e.about.show(nil)
	} else {
		e.live.show(s.traffic)
		e.blocked.show(&s.blocked)
		e.tree.show(s)
		e.about.show(s)
	}
	e.refreshBadge()
}

// refresh brings up to date what can be seen.
func (e *egress) refresh() {
	switch e.page {
	case pageLive:
		e.live.refresh()
	case pageBlocked:
		e.blocked.refresh()
	case pageSnapshots:
		e.tree.refresh()
	case pageAbout:
		e.about.refresh()
	}
	e.refreshBadge()
}

func (e *egress) refreshBlocked() {
	e.blocked.refresh()
	e.refreshBadge()
}

func (e *egress) refreshBadge() {
	n := 0
	if e.blocked.data != nil {
		n = e.blocked.data.Count(e.w.now())
	}
	if t := e.heads[pageBlocked]; t.badge != n {
		t.badge = n
		t.Refresh()
	}
}

// pageTab is the head of one page, with a badge.
type pageTab struct {
	widget.BaseWidget
	title    string
	badge    int
	selected bool
	hovered  bool
	tapped   func()
}

func (t *pageTab) name() string {
	if t.badge > 0 {
		return t.title + " " + strconv.Itoa(t.badge)
	}
	return t.title
}

// Tapped is called by Fyne.
func (t *pageTab) Tapped(*fyne.PointEvent) { t.tapped() }

// MouseIn is called by Fyne.
func (t *pageTab) MouseIn(*desktop.MouseEvent) { t.hovered = true; t.Refresh() }

// MouseMoved is called by Fyne.
func (t *pageTab) MouseMoved(*desktop.MouseEvent) {}

// MouseOut is called by Fyne.
func (t *pageTab) MouseOut() { t.hovered = false; t.Refresh() }

// CreateRenderer is called by Fyne.
func (t *pageTab) CreateRenderer() fyne.WidgetRenderer {
	r := &pageTabRenderer{t: t, label: newText(t.title, colDim, textBody), line: canvas.NewRectangle(colAccent), pill: fill(colBadge, 8), count: boldText("", rgb(0xffffff), 10)}
	r.Refresh()
	return r
}

type pageTabRenderer struct {
	t            *pageTab
	label, count *canvas.Text
	line, pill   *canvas.Rectangle
}

// MinSize is called by Fyne.
func (r *pageTabRenderer) MinSize() fyne.Size {
	w := r.label.MinSize().Width + 24
	if r.count.Text != "" {
		w += r.count.MinSize().Width + 16
	}
	return fyne.NewSize(w, tabHeight)
}

// Layout is called by Fyne.
func (r *pageTabRenderer) Layout(size fyne.Size) {
	place(r.label, 12, 0, size.Height)
	r.line.Move(fyne.NewPos(8, size.Height-2))
	r.line.Resize(fyne.NewSize(size.Width-16, 2))
	if r.count.Text != "" {
		x := 12 + r.label.MinSize().Width + 6
		r.pill.Move(fyne.NewPos(x, (size.Height-16)/2))
		r.pill.Resize(fyne.NewSize(r.count.MinSize().Width+10, 16))
		place(r.count, x+5, (size.Height-16)/2, 16)
	}
}

// Refresh is called by Fyne.
func (r *pageTabRenderer) Refresh() {
	r.label.Color = color.Color(colDim)
	if r.t.selected || r.t.hovered {
		r.label.Color = colText
	}
	r.line.Hidden = !r.t.selected
	text := ""
	if r.t.badge > 0 {
		text = strconv.Itoa(min(r.t.badge, 999))
	}
	grow := (text == "") != (r.count.Text == "") || len(text) != len(r.count.Text)
	r.count.Text = text
	r.pill.Hidden = text == ""
	r.Layout(r.t.Size())
	for _, o := range r.Objects() {
		o.Refresh()
	}
	if grow && r.t.Size().Width > 0 {
		r.t.Resize(fyne.NewSize(r.MinSize().Width, r.t.Size().Height))
		if c := fyne.CurrentApp().Driver().CanvasForObject(r.t); c != nil {
			c.Refresh(r.t)
		}
	}
}

// Objects is called by Fyne.
func (r *pageTabRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{r.label, r.line, r.pill, r.count}
}

// Destroy is called by Fyne.
func (r *pageTabRenderer) Destroy() {}
