package terminal

import (
	"image"
	"math"
	"time"

	"fyne.io/fyne/v2"

	"capsid/app/terminal/vt"
)

const (
	padding        = 4 // Fyne's units, left and top of the grid
	resizeInterval = 60 * time.Millisecond
)

// painter is what the frame goroutine keeps between frames. Two fields are shared with the UI goroutine: rows' front images under
// Terminal.mu, and cols, rows likewise.
type painter struct {
	frame vt.Frame
	face  *face
	rows  []rowImage

	cols, rowsN int // grid in force; 0 before the first layout
	resized     time.Time
	screen      *vt.Screen
	palette     vt.Palette
}

// rowImage is one row in pixels: the image that is shown, and the one that is drawn next.
type rowImage struct {
	front, back *image.RGBA
	id          uint64
	decor       decor
}

// frame draws what changed and hands it to the UI goroutine. The pacer calls it, never twice at a time.
func (t *Terminal) frame() {
	p := &t.paint
	t.mu.Lock()
	s := t.screen
	hidden := t.hidden || t.size.IsZero()
	t.fitGrid(p)
	if s != p.screen {
		p.screen = s
		s.SetCellSize(p.face.cellW, p.face.cellH)
		p.palette = vt.Palette{}
		p.frame = vt.Frame{}
		for i := range p.rows {
			p.rows[i].id = 0
		}
	}
	newPalette := p.palette != t.colours.palette
	p.palette = t.colours.palette
	top := t.view.top
	t.mu.Unlock()
	if newPalette {
		s.SetPalette(p.palette)
	}
	if hidden {
		t.onUI(t.deliver, true)
		return
	}

	s.Snapshot(&p.frame, top)
	f := &p.frame
	decors, blinking := t.decorate(f)
	for len(p.rows) < f.Rows {
		p.rows = append(p.rows, rowImage{})
	}
	size := image.Rect(0, 0, f.Cols*p.face.cellW, p.face.cellH)
	var changed []int
	for i := range f.Rows {
		r := &p.rows[i]
		if r.front != nil && r.id == f.Lines[i].ID && r.decor == decors[i] && r.front.Rect == size {
			continue
		}
		if r.back == nil || r.back.Rect != size {
			r.back = image.NewRGBA(size)
		}
		r.id, r.decor = f.Lines[i].ID, decors[i]
		paintRow(r.back, &f.Lines[i], &r.decor)
		changed = append(changed, i)
	}
	t.onUI(func() {
		t.mu.Lock()
		for _, i := range changed {
			p.rows[i].front, p.rows[i].back = p.rows[i].back, p.rows[i].front
		}
		t.mu.Unlock()
		t.show(changed)
		t.deliver()
	}, true)
	if f.Held > 0 {
		t.pace.after(f.Held)
	}
	if blinking {
		t.keepBlinking()
	}
}

// fitGrid takes over a new size of the widget or of the text. It is called with the lock held.
func (t *Terminal) fitGrid(p *painter) {
	px := t.fontSize
	if px == 0 {
		px = t.colours.textSize
	}
	px *= t.scale
	face := p.face
	if face == nil || face.px != px {
		face = newFace(t.fonts, px)
		p.face = face
		t.screen.SetCellSize(face.cellW, face.cellH)
	}
	if t.size.IsZero() {
		return
	}
	cols := int((t.size.Width-2*padding)*t.scale+0.5) / face.cellW
	rows := int((t.size.Height-2*padding)*t.scale+0.5) / face.cellH
	cols, rows = min(max(cols, 2), vt.MaxCols), min(max(rows, 1), vt.MaxRows)
	if cols == p.cols && rows == p.rowsN {
		return
	}
	// While a window's edge is dragged, a program is told a few sizes a second, and the last.
	if wait := resizeInterval - time.Since(p.resized); wait > 0 && p.cols > 0 {
		t.pace.after(wait)
		return
	}
	p.cols, p.rowsN, p.resized = cols, rows, time.Now()
	t.screen.Resize(cols, rows)
	t.screen.SetCellSize(face.cellW, face.cellH)
	if t.link != nil {
		t.link.resize(cols, rows)
	}
}

// decorate works out what lies over each line, and whether the cursor blinks.
func (t *Terminal) decorate(f *vt.Frame) (d []decor, blinking bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := &t.view
	if f.Epoch != v.epoch {
		v.epoch = f.Epoch
		v.selected, v.found, v.hovering = false, nil, false
		if v.top >= 0 && f.Top >= f.Base {
			v.top = -1
		}
	}
	if v.top >= f.Base {
		v.top = -1
	} else if v.top >= 0 {
		v.top = f.Top
	}
	d = make([]decor, f.Rows)
	for i := range d {
		n := f.Top + i
		d[i] = decor{palette: f.Palette, reverse: f.Reverse, face: t.paint.face, selection: t.colours.selection, marks: marks{on: -1}}
		if v.selected {
			d[i].selFrom, d[i].selTo = v.span.Columns(n, f.Cols)
		}
		if v.hovering {
			d[i].linkFrom, d[i].linkTo = v.hover.Columns(n, f.Cols)
		}
	}
	for k, sp := range v.found {
		for n := max(sp.From.Line, f.Top); n <= sp.To.Line && n < f.Top+f.Rows; n++ {
			m := &d[n-f.Top].marks
			if m.n == maxMarks {
				continue
			}
			from, to := sp.Columns(n, f.Cols)
			m.at[2*m.n], m.at[2*m.n+1] = int16(from), int16(to)
			if k == v.current {
				m.on = m.n
			}
			m.n++
		}
	}
	if f.Cursor.Visible && t.ending == "" && f.Cursor.Y >= 0 && f.Cursor.Y < f.Rows {
		c := &d[f.Cursor.Y]
		c.cursorX = f.Cursor.X
		blinking = f.Cursor.Blink && t.focused
		switch {
		case !t.focused:
			c.cursor = cursorHollow
		case f.Cursor.Blink && t.blinkOff:
			c.cursor, c.cursorX = cursorNone, 0
		case f.Cursor.Style == vt.CursorBar:
			c.cursor = cursorBar
		case f.Cursor.Style == vt.CursorUnderline:
			c.cursor = cursorUnderline
		default:
			c.cursor = cursorBlock
		}
	}
	return d, blinking
}

// image is what the raster of row i shows.
func (t *Terminal) image(i, w, h int) image.Image {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i < len(t.paint.rows) && t.paint.rows[i].front != nil {
		return t.paint.rows[i].front
	}
	return image.NewRGBA(image.Rect(0, 0, max(w, 1), max(h, 1)))
}

// cellAt is the cell under a place of the widget, cut to the grid.
func (t *Terminal) cellAt(pos fyne.Position) (x, y int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.paint.face
	if f == nil {
		return 0, 0
	}
	x = int(math.Floor(float64((pos.X - padding) * t.scale / float32(f.cellW))))
	y = int(math.Floor(float64((pos.Y - padding) * t.scale / float32(f.cellH))))
	return min(max(x, 0), max(t.paint.cols-1, 0)), min(max(y, 0), max(t.paint.rowsN-1, 0))
}
