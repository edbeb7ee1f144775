package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"
)

// look says how loud a button is.
type look int

const (
	plain  look = iota
	loud        // the one that most people want here
	quiet       // no surface until the pointer is on it
	danger      // takes something away
)

// button is the window's button: compact, with a hint that the status bar shows while the pointer is on it.
type button struct {
	widget.DisableableWidget
	text    string
	icon    fyne.Resource
	look    look
	small   bool
	left    bool // the text begins at the left edge
	hint    string
	tapped  func()
	onHint  func(string)
	hovered bool
	focused bool
	// secondary is called with the pointer's place for the other mouse button; may be nil.
	secondary func(fyne.Position)
}

func newButton(text string, l look, tapped func()) *button {
	b := &button{text: text, look: l, tapped: tapped}
	b.ExtendBaseWidget(b)
	return b
}

func (b *button) withIcon(r fyne.Resource) *button { b.icon = r; return b }
func (b *button) asSmall() *button                 { b.small = true; return b }
func (b *button) alignLeft() *button               { b.left = true; return b }

// AccessibilityLabel is called by Fyne.
func (b *button) AccessibilityLabel() string {
	if b.text != "" {
		return b.text
	}
	return b.hint
}

// AccessibilityRole is called by Fyne.
func (b *button) AccessibilityRole() fyne.AccessibleRole { return fyne.AccessibleRoleButton }

// Tapped is called by Fyne.
func (b *button) Tapped(*fyne.PointEvent) {
	if !b.Disabled() && b.tapped != nil {
		b.tapped()
	}
}

// TappedSecondary is called by Fyne.
func (b *button) TappedSecondary(e *fyne.PointEvent) {
	if b.secondary != nil {
		b.secondary(e.AbsolutePosition)
	}
}

// MouseIn is called by Fyne.
func (b *button) MouseIn(*desktop.MouseEvent) {
	b.hovered = true
	if b.onHint != nil {
		b.onHint(b.hint)
	}
	b.Refresh()
}

// MouseMoved is called by Fyne.
func (b *button) MouseMoved(*desktop.MouseEvent) {}

// MouseOut is called by Fyne.
func (b *button) MouseOut() {
	b.hovered = false
	if b.onHint != nil {
		b.onHint("")
	}
	b.Refresh()
}

// Cursor is called by Fyne.
func (b *button) Cursor() desktop.Cursor {
	if b.Disabled() {
		return desktop.DefaultCursor
	}
	return desktop.PointerCursor
}

// FocusGained is called by Fyne.
func (b *button) FocusGained() { b.focused = true; b.Refresh() }

// FocusLost is called by Fyne.
func (b *button) FocusLost() { b.focused = false; b.Refresh() }

// TypedRune is called by Fyne.
func (b *button) TypedRune(rune) {}

// TypedKey is called by Fyne.
func (b *button) TypedKey(e *fyne.KeyEvent) {
	switch e.Name {
	case fyne.KeySpace, fyne.KeyReturn, fyne.KeyEnter:
		b.Tapped(nil)
	}
}

// CreateRenderer is called by Fyne.
func (b *button) CreateRenderer() fyne.WidgetRenderer {
	r := &buttonRenderer{b: b, back: fill(color.Transparent, 6), label: newText("", colText, textBody), icon: canvas.NewImageFromResource(b.icon)}
	r.icon.FillMode = canvas.ImageFillContain
	r.Refresh()
	return r
}

type buttonRenderer struct {
	b     *button
	back  *canvas.Rectangle
	label *canvas.Text
	icon  *canvas.Image
}

func (r *buttonRenderer) metrics() (padX, height, icon, gap float32) {
	if r.b.small {
		return 8, 24, 13, 5
	}
	return 11, 31, 16, 8
}

// MinSize is called by Fyne.
func (r *buttonRenderer) MinSize() fyne.Size {
	padX, height, icon, gap := r.metrics()
	w := 2 * padX
	if r.b.text != "" {
		w += fyne.MeasureText(r.b.text, r.label.TextSize, r.label.TextStyle).Width
	}
	if r.b.left {
		w = min(w, 100) // what is longer is cut, not pushed out of sight
	}
	if r.b.icon != nil {
		w += icon
		if r.b.text != "" {
			w += gap
		} else {
			w = height // a square
		}
	}
	return fyne.NewSize(w, height)
}

// Layout is called by Fyne.
func (r *buttonRenderer) Layout(size fyne.Size) {
	r.back.Resize(size)
	padX, _, icon, gap := r.metrics()
	w := float32(0)
	if r.b.text != "" {
		w = r.label.MinSize().Width
	}
	if r.b.icon != nil {
		w += icon
		if r.b.text != "" {
			w += gap
		}
	}
	x := (size.Width - w) / 2
	if r.b.left {
		x = padX
	}
	if r.b.icon != nil {
		r.icon.Resize(fyne.NewSquareSize(icon))
		r.icon.Move(fyne.NewPos(x, (size.Height-icon)/2))
		x += icon + gap
	}
	if r.b.left {
		fit(r.label, r.b.text, size.Width-x-4)
	}
	place(r.label, x, 0, size.Height)
}

// Refresh is called by Fyne.
func (r *buttonRenderer) Refresh() {
	b := r.b
	back, fore := color.Color(colRaised), color.Color(colText)
	switch b.look {
	case loud:
		back, fore = alpha(colAccent, 0x38), rgb(0xcfe4ff)
	case quiet:
		back, fore = color.Transparent, colDim
	case danger:
		fore = colBad
	}
	stroke := color.Color(color.Transparent)
	switch {
	case b.Disabled():
		fore = colFaint
		if b.look != quiet {
			back = rgb(0x1d222a)
		}
	case b.hovered:
		switch b.look {
		case loud:
			back = alpha(colAccent, 0x58)
		case danger:
			back = alpha(colBad, 0x30)
		default:
			back = colHover
		}
		if b.look == quiet {
			fore = colText
		}
	}
	if b.focused && !b.Disabled() {
		stroke = alpha(colAccent, 0xb0)
	}
	r.back.FillColor, r.back.StrokeColor, r.back.StrokeWidth = back, stroke, 1
	r.label.TextSize = textBody
	if b.small {
		r.label.TextSize = 12
	}
	r.label.Text, r.label.Color = b.text, fore
	r.icon.Resource = b.icon
	r.icon.Hidden = b.icon == nil
	if b.Disabled() {
		r.icon.Translucency = 0.5
	} else {
		r.icon.Translucency = 0
	}
	r.Layout(b.Size())
	r.back.Refresh()
	r.label.Refresh()
	if b.icon != nil {
		r.icon.Refresh()
	}
}

// Objects is called by Fyne.
func (r *buttonRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{r.back, r.icon, r.label}
}

// Destroy is called by Fyne.
func (r *buttonRenderer) Destroy() {}
