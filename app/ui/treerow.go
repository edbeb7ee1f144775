package ui

import (
	"fmt"
	"image/color"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/app/ui/traffic"
)

const (
	treeRowHeight = 42
	treeIndent    = 20
	treeIcon      = 16
	// hereText marks the node that the machine of the selected session goes on from.
	hereText = "you are here"
)

// treeRow is one session or snapshot in the tree, with the lines that lead to it.
type treeRow struct {
	widget.BaseWidget
	it       treeItem
	freed    int64
	state    session.State // of a session
	mark     fyne.Resource
	now      time.Time
	selected bool
	hovered  bool
	looked   string // what was drawn last

	onTap  func()
	onHint func(string)
}

func newTreeRow() *treeRow {
	r := &treeRow{}
	r.ExtendBaseWidget(r)
	return r
}

func (r *treeRow) set(it treeItem, freed int64, selected bool, w *Window) {
	r.it, r.freed, r.selected, r.now, r.state = it, freed, selected, w.now(), ""
	switch n := it.node; {
	case n.Session != nil:
		r.mark = w.mark(n.Session.Agent)
		if s := w.sessions[n.Ref.Session]; s != nil {
			r.state = s.st.State
		}
	case n.Snapshot.Broken != nil:
		r.mark = brokenIcon()
	default:
		r.mark = cameraIcon(colDim)
	}
	if looks := fmt.Sprint(it.depth, it.last, it.lines, len(it.node.Children) > 0, it.node.Here, r.mark.Name(), it.node.Name(), r.info(), r.time(), selected, r.state); looks != r.looked {
		r.looked = looks
		r.Refresh()
	}
}

// name is what the probe tells.
func (r *treeRow) name() string {
	text := "snapshot "
	if r.it.node.Session != nil {
		text = "session "
	}
	text += r.it.node.Name() + ": " + r.info()
	if r.it.node.Here {
		text += ", " + hereText
	}
	return text
}

// info is the second line.
func (r *treeRow) info() string {
	n := r.it.node
	switch {
	case n.Session != nil && r.state == "":
		return traffic.Size(r.freed)
	case n.Session != nil:
		return string(r.state) + " · " + traffic.Size(r.freed)
	case n.Snapshot.Broken != nil:
		return n.Snapshot.Broken.Error()
	}
	m := &n.Snapshot.Manifest
	text := "memory"
	if m.Kind == snapshot.Disk {
		text = "disk only"
	}
	text += " · " + traffic.Size(r.freed)
	if m.Note != "" {
		text += " · " + m.Note
	}
	return text
}

func (r *treeRow) time() string {
	if at := r.it.node.Created(); !at.IsZero() {
		return traffic.Ago(r.now, at)
	}
	return ""
}

// Tapped is called by Fyne.
func (r *treeRow) Tapped(*fyne.PointEvent) { r.onTap() }

// MouseIn is called by Fyne.
func (r *treeRow) MouseIn(*desktop.MouseEvent) {
	r.hovered = true
	if r.it.node.Session != nil {
		r.onHint("Open " + r.it.node.Name())
	} else {
		r.onHint(r.it.node.Name() + ": " + r.info())
	}
	r.Refresh()
}

// MouseMoved is called by Fyne.
func (r *treeRow) MouseMoved(*desktop.MouseEvent) {}

// MouseOut is called by Fyne.
func (r *treeRow) MouseOut() { r.hovered = false; r.onHint(""); r.Refresh() }

// CreateRenderer is called by Fyne.
func (r *treeRow) CreateRenderer() fyne.WidgetRenderer {
	s := &treeRowRenderer{r: r, back: fill(color.Transparent, 6), mark: canvas.NewImageFromResource(nil), dot: canvas.NewCircle(colFaint), name: newText("", colText, textBody),
		info: newText("", colDim, textSmall), when: newText("", colFaint, textSmall), pill: fill(alpha(colAccent, 0x30), 8), here: boldText(hereText, colAccent, 10)}
	s.mark.FillMode = canvas.ImageFillContain
	s.Refresh()
	return s
}

type treeRowRenderer struct {
	r                      *treeRow
	back, pill             *canvas.Rectangle
	lines                  []fyne.CanvasObject
	mark                   *canvas.Image
	dot                    *canvas.Circle
	name, info, when, here *canvas.Text
}

// MinSize is called by Fyne.
func (s *treeRowRenderer) MinSize() fyne.Size { return fyne.NewSize(200, treeRowHeight) }

// stem is where the line below a node's icon stands.
func stem(depth int) float32 { return 8 + treeIndent*float32(min(depth, 8)) + treeIcon/2 }

// Layout is called by Fyne.
func (s *treeRowRenderer) Layout(size fyne.Size) {
	n, depth := s.r.it.node, s.r.it.depth
	if n == nil {
		return
	}
	s.back.Resize(size)
	s.drawLines(size)
	x := stem(depth) - treeIcon/2
	s.mark.Resize(fyne.NewSquareSize(treeIcon))
	s.mark.Move(fyne.NewPos(x, (size.Height-treeIcon)/2))
	s.dot.Resize(fyne.NewSquareSize(7))
	s.dot.Move(fyne.NewPos(x+11, (size.Height-treeIcon)/2+10))
	x += treeIcon + 9
	s.when.Text = s.r.time()
	right := size.Width - 8
	when := s.when.MinSize().Width
	place(s.when, right-when, 4, 18)
	room := right - when - 8 - x
	s.pill.Hidden, s.here.Hidden = !n.Here, !n.Here
	if n.Here {
		room -= s.here.MinSize().Width + 20
	}
	fit(s.name, n.Name(), room)
	place(s.name, x, 4, 18)
	if n.Here {
		at := x + s.name.MinSize().Width + 8
		s.pill.Move(fyne.NewPos(at, 5))
		s.pill.Resize(fyne.NewSize(s.here.MinSize().Width+12, 16))
		place(s.here, at+6, 5, 16)
	}
	fit(s.info, s.r.info(), right-x)
	place(s.info, x, 21, 16)
}

// drawLines draws what joins the node to its parent, and those that pass by.
func (s *treeRowRenderer) drawLines(size fyne.Size) {
	it := s.r.it
	used := 0
	line := func(x, y, w, h float32) {
		if used == len(s.lines) {
			s.lines = append(s.lines, canvas.NewRectangle(colFaint))
		}
		o := s.lines[used]
		o.Move(fyne.NewPos(x, y))
		o.Resize(fyne.NewSize(w, h))
		o.Show()
		used++
	}
	middle := size.Height / 2
	for level, passes := range it.lines {
		if passes {
			line(stem(level), 0, 1, size.Height)
		}
	}
	if it.depth > 0 {
		x := stem(it.depth - 1)
		down := size.Height
		if it.last {
			down = middle
		}
		line(x, 0, 1, down)
		line(x, middle, treeIndent-treeIcon/2-3, 1)
	}
	if len(it.node.Children) > 0 {
		line(stem(it.depth), middle+treeIcon/2+2, 1, middle-treeIcon/2-2)
	}
	for _, o := range s.lines[used:] {
		o.Hide()
	}
}

// Refresh is called by Fyne.
func (s *treeRowRenderer) Refresh() {
	r := s.r
	n := r.it.node
	if n == nil {
		return
	}
	s.back.FillColor = color.Transparent
	switch {
	case r.selected:
		s.back.FillColor = colHover
	case r.hovered:
		s.back.FillColor = rgb(0x20262e)
	}
	s.mark.Resource = r.mark
	s.dot.Hidden = n.Session == nil
	s.dot.FillColor = stateColor(r.state)
	s.name.Color, s.info.Color = colText, colDim
	if n.Snapshot != nil && n.Snapshot.Broken != nil {
		s.name.Color, s.info.Color = colWarn, colWarn
	}
	s.name.TextStyle.Bold = n.Session != nil
	s.Layout(r.Size())
	for _, o := range s.Objects() {
		o.Refresh()
	}
}

// Objects is called by Fyne.
func (s *treeRowRenderer) Objects() []fyne.CanvasObject {
	return append(append([]fyne.CanvasObject{s.back}, s.lines...), s.mark, s.dot, s.name, s.pill, s.here, s.info, s.when)
}

// Destroy is called by Fyne.
func (s *treeRowRenderer) Destroy() {}

// paragraphSmall is wrapped text of the size of details.
func paragraphSmall(text string) fyne.CanvasObject {
	l := widget.NewLabel(text)
	l.Wrapping = fyne.TextWrapWord
	l.SizeName = theme.SizeNameCaptionText
	l.Selectable = true
	return container.New(bar{left: -6, right: -6, top: -4, bottom: -4}, l)
}
