package vt

// index moves the cursor down, and scrolls at the bottom margin.
func (s *Screen) index() {
	s.lastOK = false
	switch {
	case s.c.y == s.bottom:
		s.scrollUp(s.top, s.bottom, 1, true)
	case s.c.y < s.rows-1:
		s.c.y++
	}
}

// reverseIndex moves the cursor up, and scrolls at the top margin.
func (s *Screen) reverseIndex() {
	switch {
	case s.c.y == s.top:
		s.scrollDown(s.top, s.bottom, 1)
	case s.c.y > 0:
		s.c.y--
	}
}

// scrollUp moves the rows top..bottom up by n. With keep, rows that leave the main screen at its first row go into the scrollback, even
// when the region ends above the last row: that is how full-screen programs write their history.
func (s *Screen) scrollUp(top, bottom, n int, keep bool) {
	rows := s.cur.rows
	n = min(n, bottom-top+1)
	if n <= 0 {
		return
	}
	keep = keep && top == 0 && s.cur == &s.main
	moved := make([]*row, n)
	copy(moved, rows[top:top+n])
	copy(rows[top:], rows[top+n:bottom+1])
	if top > 0 {
		s.unwrap(top - 1)
	}
	for i, r := range moved {
		if keep {
			s.hist.push(r)
		}
		r.clear(s.c.style, s.nextID())
		rows[bottom-n+1+i] = r
	}
	if bottom < s.rows-1 && bottom-n >= 0 {
		s.unwrap(bottom - n)
	}
}

// scrollDown moves the rows top..bottom down by n.
func (s *Screen) scrollDown(top, bottom, n int) {
	rows := s.cur.rows
	n = min(n, bottom-top+1)
	if n <= 0 {
		return
	}
	moved := make([]*row, n)
	copy(moved, rows[bottom-n+1:bottom+1])
	copy(rows[top+n:bottom+1], rows[top:bottom-n+1])
	for i, r := range moved {
		r.clear(s.c.style, s.nextID())
		rows[top+i] = r
	}
	if top > 0 {
		s.unwrap(top - 1)
	}
	s.unwrap(bottom)
}

// unwrap says that row y is followed by something that its text does not go on in.
func (s *Screen) unwrap(y int) {
	if s.cur.rows[y].wrapped {
		s.touch(y).wrapped = false
	}
}

func (s *Screen) insertLines(n int) {
	if s.c.y < s.top || s.c.y > s.bottom {
		return
	}
	s.scrollDown(s.c.y, s.bottom, n)
	s.c.x, s.c.pending = 0, false
}

func (s *Screen) deleteLines(n int) {
	if s.c.y < s.top || s.c.y > s.bottom {
		return
	}
	s.scrollUp(s.c.y, s.bottom, n, false)
	s.c.x, s.c.pending = 0, false
}

// insertCells makes room for n cells at x; what passes the right edge is lost.
func (s *Screen) insertCells(r *row, x, n int) {
	n = min(n, s.cols-x)
	s.splitWide(r, x)
	s.splitWide(r, s.cols-n)
	copy(r.cells[x+n:], r.cells[x:s.cols-n])
	blank(r.cells[x:x+n], s.c.style)
}

func (s *Screen) insertChars(n int) {
	s.c.pending = false
	r := s.touch(s.c.y)
	r.wrapped = false
	s.insertCells(r, s.c.x, n)
}

func (s *Screen) deleteChars(n int) {
	s.c.pending = false
	r := s.touch(s.c.y)
	r.wrapped = false
	x := s.c.x
	n = min(n, s.cols-x)
	s.splitWide(r, x)
	s.splitWide(r, x+n)
	copy(r.cells[x:], r.cells[x+n:])
	blank(r.cells[s.cols-n:], s.c.style)
}

// erase blanks the cells x0..x1-1 of row y.
func (s *Screen) erase(y, x0, x1 int) {
	x0, x1 = max(x0, 0), min(x1, s.cols)
	if x0 >= x1 {
		return
	}
	r := s.touch(y)
	s.splitWide(r, x0)
	s.splitWide(r, x1)
	blank(r.cells[x0:x1], s.c.style)
	if x1 == s.cols {
		r.wrapped = false
	}
}

func (s *Screen) eraseLine(mode int) {
	s.c.pending = false
	switch mode {
	case 0:
		s.erase(s.c.y, s.c.x, s.cols)
	case 1:
		s.erase(s.c.y, 0, s.c.x+1)
	case 2:
		s.erase(s.c.y, 0, s.cols)
	}
}

func (s *Screen) eraseDisplay(mode int) {
	switch mode {
	case 0:
		s.eraseLine(0)
		s.eraseRows(s.c.y+1, s.rows)
	case 1:
		s.eraseLine(1)
		s.eraseRows(0, s.c.y)
	case 2:
		s.c.pending = false
		s.eraseRows(0, s.rows)
	case 3:
		s.hist.clear()
		s.epoch++
	}
}

func (s *Screen) eraseRows(y0, y1 int) {
	if y0 > 0 && y0 < y1 {
		s.unwrap(y0 - 1)
	}
	for y := y0; y < y1; y++ {
		s.cur.rows[y].clear(s.c.style, s.nextID())
	}
}

// alignment is DECALN: the screen full of E.
func (s *Screen) alignment() {
	s.top, s.bottom = 0, s.rows-1
	s.moveTo(0, 0)
	for y := range s.cur.rows {
		r := s.touch(y)
		r.wrapped = false
		for x := range r.cells {
			r.cells[x] = Cell{Rune: 'E', Width: 1}
		}
	}
}

// moveTo puts the cursor at a place of the whole screen; it is cut at the edges.
func (s *Screen) moveTo(x, y int) {
	s.c.x = min(max(x, 0), s.cols-1)
	s.c.y = min(max(y, 0), s.rows-1)
	s.c.pending = false
}

// moveOrigin puts the cursor at a place counted from the scroll region when origin mode is on.
func (s *Screen) moveOrigin(x, y int) {
	if s.c.origin {
		s.moveTo(x, min(max(y, 0)+s.top, s.bottom))
		return
	}
	s.moveTo(x, y)
}

// moveUp and moveDown stop at the margin when they begin inside of it.
func (s *Screen) moveUp(n int) {
	limit := 0
	if s.c.y >= s.top {
		limit = s.top
	}
	s.moveTo(s.c.x, max(s.c.y-n, limit))
}

func (s *Screen) moveDown(n int) {
	limit := s.rows - 1
	if s.c.y <= s.bottom {
		limit = s.bottom
	}
	s.moveTo(s.c.x, min(s.c.y+n, limit))
}

func (s *Screen) backspace() {
	if s.c.pending {
		s.c.pending = false
		if s.m.has(reverseWrap) {
			return
		}
	}
	if s.c.x > 0 {
		s.c.x--
		return
	}
	if s.m.has(reverseWrap) && s.m.has(autowrap) && s.c.y > s.top && s.cur.rows[s.c.y-1].wrapped {
		s.moveTo(s.cols-1, s.c.y-1)
	}
}

func (s *Screen) tab(n int) {
	for range min(n, s.cols) {
		s.c.x++
		for s.c.x < s.cols-1 && !s.tabs[s.c.x] {
			s.c.x++
		}
		s.c.x = min(s.c.x, s.cols-1)
	}
}

func (s *Screen) backTab(n int) {
	s.c.pending = false
	for range min(n, s.cols) {
		s.c.x = max(s.c.x-1, 0)
		for s.c.x > 0 && !s.tabs[s.c.x] {
			s.c.x--
		}
	}
}

func (s *Screen) saveCursor() {
	s.cur.saved = savedCursor{cursor: s.c, ok: true}
}

func (s *Screen) restoreCursor() {
	saved := s.cur.saved.cursor
	link := s.c.link
	s.c = saved
	s.c.link = link
	pending := saved.pending
	s.moveTo(saved.x, saved.y)
	s.c.pending = pending && s.c.x == s.cols-1
}
