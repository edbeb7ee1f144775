package vt

import "time"

// Frame is a copy of what is to be seen. Snapshot fills it; nothing in it changes between two of them.
type Frame struct {
	Cols, Rows int
	Lines      []Line // top to bottom, Rows of them
	Dirty      []int  // the lines that the last Snapshot copied

	Cursor  Cursor
	Palette *Palette // another pointer when colours changed
	Reverse bool     // foreground and background change places (DECSCNM)
	Modes   Modes

	Top   int // absolute number of Lines[0]
	First int // of the oldest line that is kept
	Base  int // of the line that is Lines[0] when nothing is scrolled back
	Epoch uint64

	// Held is how long the program still holds the picture; Snapshot again then, or at the next Change.
	Held time.Duration
}

// Line is one line of a frame. Its ID changes whenever its content does.
type Line struct {
	ID      uint64
	Cells   []Cell
	Wrapped bool
}

// Cursor is where the cursor is drawn, in the frame's lines.
type Cursor struct {
	X, Y    int
	Visible bool
	Style   CursorStyle
	Blink   bool
}

// Snapshot copies what is to be seen into dst, and of the lines only those that dst does not hold already. top is the absolute number of
// the first line, or negative for the newest; the alternate screen has no older ones.
func (s *Screen) Snapshot(dst *Frame, top int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := time.Until(s.syncUntil)
	if held > 0 && top < 0 {
		dst.copy(&s.shown)
	} else {
		s.snapshot(dst, top)
	}
	dst.Modes = s.modes()
	dst.Held = max(held, 0)
}

func (s *Screen) snapshot(dst *Frame, top int) {
	base := s.hist.gone + s.hist.n
	first := s.hist.gone
	if s.cur == &s.alt {
		first = base
	}
	if top < 0 || top > base {
		top = base
	}
	top = max(top, first)
	dst.resize(s.cols, s.rows)
	for i := range s.rows {
		line := &dst.Lines[i]
		if n := top + i; n < base {
			l := s.hist.at(n - s.hist.gone)
			if line.ID != l.id {
				l.unpack(line.Cells)
				line.ID, line.Wrapped = l.id, l.wrapped
				dst.Dirty = append(dst.Dirty, i)
			}
			continue
		}
		r := s.cur.rows[top+i-base]
		if line.ID != r.id {
			copy(line.Cells, r.cells)
			line.ID, line.Wrapped = r.id, r.wrapped
			dst.Dirty = append(dst.Dirty, i)
		}
	}
	dst.Top, dst.First, dst.Base, dst.Epoch = top, first, base, s.epoch
	dst.Palette, dst.Reverse = s.pal, s.m.has(reverseVideo)
	dst.Cursor = Cursor{X: s.c.x, Y: s.c.y + base - top, Style: s.cursorS, Blink: s.cursorB}
	dst.Cursor.Visible = s.m.has(cursorVisible) && dst.Cursor.Y < s.rows
}

// resize makes room and forgets what was dirty.
func (f *Frame) resize(cols, rows int) {
	f.Dirty = f.Dirty[:0]
	if f.Cols == cols && f.Rows == rows {
		return
	}
	f.Cols, f.Rows = cols, rows
	cells := make([]Cell, cols*rows)
	f.Lines = make([]Line, rows)
	for i := range f.Lines {
		f.Lines[i].Cells = cells[i*cols : (i+1)*cols : (i+1)*cols]
	}
}

func (f *Frame) copy(src *Frame) {
	f.resize(src.Cols, src.Rows)
	lines, dirty := f.Lines, f.Dirty
	for i := range src.Lines {
		if from, to := &src.Lines[i], &lines[i]; from.ID != to.ID {
			copy(to.Cells, from.Cells)
			to.ID, to.Wrapped = from.ID, from.Wrapped
			dirty = append(dirty, i)
		}
	}
	*f = *src
	f.Lines, f.Dirty = lines, dirty
}

// Text is the line as text, without blanks at its end.
func (l *Line) Text() string { return lineText(l.Cells) }

func lineText(cells []Cell) string {
	b := make([]byte, 0, len(cells))
	for i := range cells {
		b = cells[i].appendText(b)
	}
	n := len(b)
	for n > 0 && b[n-1] == ' ' {
		n--
	}
	return string(b[:n])
}
