package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"capsid/app/session"
	"capsid/app/ui/traffic"
	"capsid/proxy/ledger"
)

// newText makes a line of text in the palette.
func newText(text string, c color.Color, size float32) *canvas.Text {
	t := canvas.NewText(text, c)
	t.TextSize = size
	return t
}

func monoText(text string, c color.Color) *canvas.Text {
	t := newText(text, c, textMono)
	t.TextStyle.Monospace = true
	return t
}

func boldText(text string, c color.Color, size float32) *canvas.Text {
	t := newText(text, c, size)
	t.TextStyle.Bold = true
	return t
}

// setText changes a line if it differs: an unchanged one costs nothing.
func setText(t *canvas.Text, text string, c color.Color) {
	if t.Text == text && t.Color == c {
		return
	}
	t.Text, t.Color = text, c
	t.Refresh()
}

// place puts one line of text at x, centred between top and top+height.
func place(t *canvas.Text, x, top, height float32) {
	size := t.MinSize()
	t.Resize(size)
	t.Move(fyne.NewPos(x, top+(height-size.Height)/2))
}

// fit shortens a line of text until it is no wider than width. The first guess goes by the average width of its letters.
func fit(t *canvas.Text, text string, width float32) {
	shown := text
	for range 6 {
		w := fyne.MeasureText(shown, t.TextSize, t.TextStyle).Width
		if w <= width || shown == "" {
			break
		}
		n := len([]rune(shown))
		shown = traffic.Cut(text, min(n-1, int(float32(n)*width/w)))
	}
	setText(t, shown, t.Color)
}

// monoWidth is the width of one letter of monospaced text.
func monoWidth() float32 {
	return fyne.MeasureText("0000000000", textMono, fyne.TextStyle{Monospace: true}).Width / 10
}

// fill is a rounded rectangle.
func fill(c color.Color, radius float32) *canvas.Rectangle {
	r := canvas.NewRectangle(c)
	r.CornerRadius = radius
	return r
}

// stateColor is the colour of a session's dot.
func stateColor(s session.State) color.NRGBA {
	switch s {
	case session.Running:
		return colGood
	case session.Starting:
		return colWarn
	case session.Paused:
		return colAccent
	case session.Suspended:
		return colAsleep
	case session.Failed:
		return colBad
	}
	return colFaint
}

func decisionColor(d ledger.Decision) color.NRGBA {
	switch d {
	case ledger.Allow:
		return colGood
	case ledger.Ask:
		return colWarn
	}
	return colBad
}

func statusColor(code int) color.NRGBA {
	switch {
	case code >= 500:
		return colBad
	case code >= 400:
		return colWarn
	case code >= 200:
		return colText
	}
	return colDim
}

// bar is a surface with a colour and inner space of its own.
type bar struct{ left, top, right, bottom float32 }

// Layout is called by Fyne.
func (b bar) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	for _, o := range objects {
		o.Move(fyne.NewPos(b.left, b.top))
		o.Resize(fyne.NewSize(max(0, size.Width-b.left-b.right), max(0, size.Height-b.top-b.bottom)))
	}
}

// MinSize is called by Fyne.
func (b bar) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var m fyne.Size
	for _, o := range objects {
		m = m.Max(o.MinSize())
	}
	return m.AddWidthHeight(b.left+b.right, b.top+b.bottom)
}

// fixed gives its content a size of its own, whatever it asks for.
type fixed struct{ width, height float32 }

// Layout is called by Fyne.
func (f fixed) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	for _, o := range objects {
		o.Move(fyne.NewPos(0, 0))
		o.Resize(size)
	}
}

// MinSize is called by Fyne.
func (f fixed) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var m fyne.Size
	for _, o := range objects {
		m = m.Max(o.MinSize())
	}
	if f.width > 0 {
		m.Width = f.width
	}
	if f.height > 0 {
		m.Height = f.height
	}
	return m
}
