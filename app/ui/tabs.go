package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"
)

// tab is one entry of the strip above the terminals.
type tab struct {
	widget.BaseWidget
	title    string
	dot      color.NRGBA
	mark     fyne.Resource
	selected bool
	hovered  bool
	overX    bool
	bell     bool

	onTap   func()
	onClose func()
	onMenu  func(fyne.Position)
	onHint  func(string)
}

func newTab() *tab {
	t := &tab{}
	t.ExtendBaseWidget(t)
	return t
}

const (
	tabHeight = 34
	tabClose  = 22
)

// Tapped is called by Fyne.
func (t *tab) Tapped(e *fyne.PointEvent) {
	if e.Position.X > t.Size().Width-tabClose-4 {
		t.onClose()
		return
	}
	t.onTap()
}

// TappedSecondary is called by Fyne.
func (t *tab) TappedSecondary(e *fyne.PointEvent) { t.onMenu(e.AbsolutePosition) }

// MouseDown is called by Fyne: the middle button closes, as in browsers.
func (t *tab) MouseDown(e *desktop.MouseEvent) {
	if e.Button == desktop.MouseButtonTertiary {
		t.onClose()
	}
}

// MouseUp is called by Fyne.
func (t *tab) MouseUp(*desktop.MouseEvent) {}

// MouseIn is called by Fyne.
func (t *tab) MouseIn(e *desktop.MouseEvent) { t.hovered = true; t.MouseMoved(e); t.Refresh() }

// MouseMoved is called by Fyne.
func (t *tab) MouseMoved(e *desktop.MouseEvent) {
	over := e.Position.X > t.Size().Width-tabClose-4
	if t.onHint != nil {
		if over {
			t.onHint("Close this tab; the session goes on (Ctrl+Shift+W)")
		} else {
			t.onHint(t.title)
		}
	}
	if over != t.overX {
		t.overX = over
		t.Refresh()
	}
}

// MouseOut is called by Fyne.
func (t *tab) MouseOut() {
	t.hovered, t.overX = false, false
	if t.onHint != nil {
		t.onHint("")
	}
	t.Refresh()
}

// CreateRenderer is called by Fyne.
func (t *tab) CreateRenderer() fyne.WidgetRenderer {
	r := &tabRenderer{t: t, back: canvas.NewRectangle(color.Transparent), line: canvas.NewRectangle(colAccent), dot: canvas.NewCircle(colFaint),
		label: newText("", colDim, textBody), cross: canvas.NewImageFromResource(closeIcon()), crossBack: fill(color.Transparent, 4),
		mark: canvas.NewImageFromResource(t.mark)}
	r.cross.FillMode, r.mark.FillMode = canvas.ImageFillContain, canvas.ImageFillContain
	r.Refresh()
	return r
}

type tabRenderer struct {
	t                     *tab
	back, line, crossBack *canvas.Rectangle
	dot                   *canvas.Circle
	label                 *canvas.Text
	cross, mark           *canvas.Image
}

// MinSize is called by Fyne.
func (r *tabRenderer) MinSize() fyne.Size {
	w := fyne.MeasureText(r.t.title, textBody, fyne.TextStyle{}).Width
	return fyne.NewSize(min(max(w+46+tabClose+8, 110), 240), tabHeight)
}

// Layout is called by Fyne.
func (r *tabRenderer) Layout(size fyne.Size) {
	r.back.Resize(size)
	r.line.Resize(fyne.NewSize(size.Width, 2))
	r.line.Move(fyne.NewPos(0, 0))
	r.mark.Resize(fyne.NewSquareSize(14))
	r.mark.Move(fyne.NewPos(12, (size.Height-14)/2))
	r.dot.Resize(fyne.NewSquareSize(7))
	r.dot.Move(fyne.NewPos(22, (size.Height-14)/2+9))
	fit(r.label, r.t.title, size.Width-36-tabClose-8)
	place(r.label, 36, 0, size.Height)
	x := size.Width - tabClose - 4
	r.crossBack.Resize(fyne.NewSquareSize(18))
	r.crossBack.Move(fyne.NewPos(x+2, (size.Height-18)/2))
	r.cross.Resize(fyne.NewSquareSize(12))
	r.cross.Move(fyne.NewPos(x+5, (size.Height-12)/2))
}

// Refresh is called by Fyne.
func (r *tabRenderer) Refresh() {
	t := r.t
	r.back.FillColor, r.label.Color = color.Transparent, colDim
	r.line.Hidden = !t.selected
	switch {
	case t.selected:
		r.back.FillColor, r.label.Color = colTerminal, colText
	case t.hovered:
		r.back.FillColor = rgb(0x20262e)
	}
	if t.bell {
		r.label.Color = colAccent
	}
	r.mark.Resource = t.mark
	r.dot.FillColor = t.dot
	r.cross.Hidden = !t.selected && !t.hovered
	r.crossBack.FillColor = color.Transparent
	if t.overX {
		r.crossBack.FillColor = colHover
	}
	r.Layout(t.Size())
	for _, o := range r.Objects() {
		o.Refresh()
	}
}

// Objects is called by Fyne.
func (r *tabRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{r.back, r.line, r.mark, r.dot, r.label, r.crossBack, r.cross}
}

// Destroy is called by Fyne.
func (r *tabRenderer) Destroy() {}

// tabStrip holds the tabs, scrolled sideways when they are many.
type tabStrip struct {
	root   fyne.CanvasObject
	box    *fyne.Container
	scroll *container.Scroll
}

func newTabStrip(trailing ...fyne.CanvasObject) *tabStrip {
	s := &tabStrip{box: container.New(row{gap: 1})}
	s.scroll = container.NewHScroll(s.box)
	s.root = container.NewStack(canvas.NewRectangle(colPanel), container.NewBorder(nil, nil, nil, container.NewHBox(trailing...), s.scroll))
	return s
}

func (s *tabStrip) set(tabs []*tab) {
	s.box.Objects = s.box.Objects[:0]
	for _, t := range tabs {
		s.box.Objects = append(s.box.Objects, t)
	}
	s.box.Refresh()
	s.scroll.Refresh()
}

// reveal scrolls so that a tab can be seen.
func (s *tabStrip) reveal(t *tab) {
	left, right := t.Position().X, t.Position().X+t.Size().Width
	off := s.scroll.Offset
	switch {
	case left < off.X:
		off.X = left
	case right > off.X+s.scroll.Size().Width:
		off.X = right - s.scroll.Size().Width
	default:
		return
	}
	s.scroll.ScrollToOffset(off)
}

// row sets objects side by side at their own widths and the full height.
type row struct{ gap float32 }

// Layout is called by Fyne.
func (r row) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	x := float32(0)
	for _, o := range objects {
		if !o.Visible() {
			continue
		}
		w := o.MinSize().Width
		o.Move(fyne.NewPos(x, 0))
		o.Resize(fyne.NewSize(w, size.Height))
		x += w + r.gap
	}
}

// MinSize is called by Fyne.
func (r row) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var m fyne.Size
	for _, o := range objects {
		if o.Visible() {
			s := o.MinSize()
			m.Width += s.Width + r.gap
			m.Height = max(m.Height, s.Height)
		}
	}
	return m
}
