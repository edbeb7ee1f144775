package vt

// maxJoin bounds how many rows are joined to one line when the width changes; a longer line is reflowed in pieces.
const maxJoin = 256

// Resize changes the size of the grid. On a new width the lines of the main screen and the scrollback are wrapped anew; on a new height
// the last line stays where it is, and the scrollback gives or takes lines at the top. The alternate screen is cut or padded.
func (s *Screen) Resize(cols, rows int) {
	cols, rows = clampSize(cols, rows)
	s.mu.Lock()
	if cols != s.cols || rows != s.rows {
		s.resize(cols, rows)
	}
	s.mu.Unlock()
	s.out.change(s.opt.Change)
}

func (s *Screen) resize(cols, rows int) {
	s.endSync()
	s.lastOK = false
	at := &s.c
	if s.cur == &s.alt {
		at = &s.main.saved.cursor
		at.y = min(at.y, s.rows-1)
	}
	if cols != s.cols {
		s.reflow(cols, rows, at)
		s.epoch++
	} else {
		s.changeRows(rows, at)
	}
	s.cropAlt(cols, rows)
	s.cols, s.rows = cols, rows
	s.top, s.bottom = 0, rows-1
	for len(s.tabs) < cols {
		s.tabs = append(s.tabs, len(s.tabs)%8 == 0)
	}
	s.tabs = s.tabs[:cols]
	for _, c := range []*cursor{&s.c, &s.main.saved.cursor, &s.alt.saved.cursor} {
		c.x, c.y = min(max(c.x, 0), cols-1), min(max(c.y, 0), rows-1)
		c.pending = c.pending && c.x == cols-1
	}
	if s.m.has(resizeReports) {
		s.reportSize()
	}
}

func (s *Screen) cropAlt(cols, rows int) {
	old := s.alt.rows
	s.alt.rows = make([]*row, rows)
	for i := range s.alt.rows {
		r := newRow(cols, Style{}, s.nextID())
		if i < len(old) {
			n := copy(r.cells, old[i].cells)
			if n < len(old[i].cells) {
				s.splitWideCut(r, old[i], n)
			}
		}
		s.alt.rows[i] = r
	}
}

// splitWideCut blanks a wide character of which only the left half was copied.
func (s *Screen) splitWideCut(r, old *row, n int) {
	if old.cells[n].Width == 0 && n > 0 {
		r.cells[n-1] = Cell{Style: r.cells[n-1].Style, Width: 1}
	}
}

// content is how many rows of the main screen are in use, the cursor's among them.
func (s *Screen) content(at *cursor) int {
	n := len(s.main.rows)
	for n > at.y+1 && used(s.main.rows[n-1].cells) == 0 {
		n--
	}
	return n
}

func (s *Screen) changeRows(rows int, at *cursor) {
	b := &s.main
	n := s.content(at)
	full := n == len(b.rows)
	if len(b.rows) > rows {
		gone := max(n-rows, 0)
		for _, r := range b.rows[:gone] {
			s.hist.push(r)
		}
		b.rows = append([]*row(nil), b.rows[gone:gone+rows]...)
		at.y -= gone
		return
	}
	var pulled []*row
	for full && len(pulled) < rows-len(b.rows) && s.hist.n > 0 {
		pulled = append(pulled, s.takeBack(s.cols))
	}
	for i, j := 0, len(pulled)-1; i < j; i, j = i+1, j-1 {
		pulled[i], pulled[j] = pulled[j], pulled[i]
	}
	at.y += len(pulled)
	b.rows = append(pulled, b.rows...)
	for len(b.rows) < rows {
		b.rows = append(b.rows, newRow(s.cols, Style{}, s.nextID()))
	}
}

// takeBack makes a row of the newest line of the scrollback.
func (s *Screen) takeBack(cols int) *row {
	l := s.hist.pop()
	r := newRow(cols, Style{}, l.id)
	l.unpack(r.cells)
	r.wrapped = l.wrapped
	return r
}

// reflow wraps the scrollback and the main screen anew, for width cols, and carries the cursor along.
func (s *Screen) reflow(cols, rows int, at *cursor) {
	n := s.content(at)
	full := n == len(s.main.rows)
	screen := s.main.rows[:n]

	// A line that begins in the scrollback and ends on the screen belongs to the screen's part.
	for s.hist.n > 0 && len(screen) < n+maxJoin && s.hist.at(s.hist.n-1).wrapped {
		l := s.hist.at(s.hist.n - 1)
		r := s.takeBack(int(l.width))
		screen = append([]*row{r}, screen...)
		at.y++
	}
	old := s.hist
	s.hist = history{max: old.max, gone: old.gone}
	w := wrapper{s: s, cols: cols, emit: func(r *row) { s.hist.push(r) }}
	buf := make([]Cell, MaxCols)
	for i := range old.n {
		l := old.at(i)
		if !l.wrapped && w.joined == 0 && len(l.cells) <= cols {
			s.hist.pushLine(*l)
			continue
		}
		cells := buf[:l.width]
		l.unpack(cells)
		w.add(cells, l.wrapped, -1)
	}
	w.flush()

	var out []*row
	w = wrapper{s: s, cols: cols, emit: func(r *row) { out = append(out, r) }, x: -1}
	w.count = func() int { return len(out) }
	for y, r := range screen {
		x := -1
		if y == at.y {
			x = at.x
			if at.pending {
				x++
			}
		}
		w.add(r.cells, r.wrapped && y < len(screen)-1, x)
	}
	w.flush()
	at.x, at.y, at.pending = w.x, w.y, w.x >= cols
	if at.pending {
		at.x = cols - 1
	}

	extra := max(len(out)-rows, 0)
	for _, r := range out[:extra] {
		s.hist.push(r)
	}
	out = out[extra:]
	at.y -= extra
	if full {
		var pulled []*row
		for len(out)+len(pulled) < rows && s.hist.n > 0 {
			pulled = append([]*row{s.takeBack(cols)}, pulled...)
		}
		out = append(pulled, out...)
		at.y += len(pulled)
	}
	for len(out) < rows {
		out = append(out, newRow(cols, Style{}, s.nextID()))
	}
	s.main.rows = out
}

// wrapper joins rows to lines and cuts the lines into rows of cols cells.
type wrapper struct {
	s      *Screen
	cols   int
	emit   func(*row)
	count  func() int // rows emitted, for the cursor
	cells  []Cell
	joined int
	mark   int // cursor's offset in cells + 1
	x, y   int // where the cursor came to be
}

// add takes a row; cursor is the cursor's column in it, or negative.
func (w *wrapper) add(cells []Cell, wrapped bool, cursor int) {
	if w.joined > 0 && len(cells) > 1 && cells[0].Width == 2 {
		// The blank that was left where a wide character did not fit.
		if n := len(w.cells); n > 0 && w.cells[n-1].Rune == 0 && w.cells[n-1].Width == 1 && w.mark < n {
			w.cells = w.cells[:n-1]
		}
	}
	if cursor >= 0 {
		w.mark = len(w.cells) + cursor + 1
	}
	n := len(cells)
	if !wrapped {
		n = used(cells)
	}
	w.cells = append(w.cells, cells[:n]...)
	for len(w.cells) < w.mark-1 {
		w.cells = append(w.cells, Cell{Width: 1})
	}
	w.joined++
	if !wrapped || w.joined >= maxJoin {
		w.cut(wrapped)
	}
}

func (w *wrapper) flush() {
	if w.joined > 0 {
		w.cut(false)
	}
}

// cut emits the rows of the line that was joined. more says that it goes on after them.
func (w *wrapper) cut(more bool) {
	cells := w.cells
	for first := true; first || len(cells) > 0; first = false {
		n := min(w.cols, len(cells))
		if n < len(cells) && cells[n].Width == 0 {
			if n--; n == 0 { // one column is too narrow for a wide character
				cells[0], cells[1] = Cell{Width: 1}, Cell{Width: 1}
				n = 1
			}
		}
		r := newRow(w.cols, Style{}, w.s.nextID())
		copy(r.cells, cells[:n])
		r.wrapped = n < len(cells) || more
		if w.mark > 0 {
			if x := w.mark - 1; x < n || n == len(cells) {
				w.x, w.y = x, w.count()
				w.mark = 0
			} else {
				w.mark -= n
			}
		}
		w.emit(r)
		cells = cells[n:]
	}
	w.cells, w.joined = w.cells[:0], 0
}
