package vt

import (
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
	"github.com/clipperhouse/uax29/v2/graphemes"
)

// maxCluster bounds the bytes of one grapheme cluster. A family of four emoji with skin tones has 41.
const maxCluster = 64

func (s *Screen) printASCII(b []byte) {
	if !s.c.set.plain() || s.m.has(insertMode) {
		for _, c := range b {
			s.print(rune(c))
		}
		return
	}
	for len(b) > 0 {
		s.wrapPending()
		r := s.touch(s.c.y)
		n := min(len(b), s.cols-s.c.x)
		s.splitWide(r, s.c.x)
		s.splitWide(r, s.c.x+n)
		cell := Cell{Style: s.c.style, Link: s.c.link, Width: 1}
		dst := r.cells[s.c.x : s.c.x+n]
		for i := range dst {
			cell.Rune = rune(b[i])
			dst[i] = cell
		}
		s.last, s.lastOK = [2]int{s.c.x + n - 1, s.c.y}, true
		s.lastText = cell
		s.advance(n)
		b = b[n:]
		if s.c.pending && !s.m.has(autowrap) && len(b) > 0 { // each further one overwrites the last column
			b = b[len(b)-1:]
			s.c.pending = false
		}
	}
}

func (s *Screen) print(r rune) {
	if r < utf8.RuneSelf {
		r = s.c.set.translate(r)
	} else if s.joinLast(r) {
		return
	}
	w := 1
	if r >= utf8.RuneSelf {
		w = min(displaywidth.Rune(r), 2)
		if w <= 0 {
			s.attach(r)
			return
		}
	}
	s.put(Cell{Rune: r, Style: s.c.style, Link: s.c.link, Width: uint8(w)})
}

// put prints one character at the cursor.
func (s *Screen) put(cell Cell) {
	w := int(cell.Width)
	if w > s.cols {
		return
	}
	s.wrapPending()
	if s.c.x+w > s.cols {
		if s.m.has(autowrap) {
			r := s.touch(s.c.y)
			s.splitWide(r, s.c.x)
			blank(r.cells[s.c.x:], s.c.style)
			s.wrap()
		} else {
			s.c.x = s.cols - w
		}
	}
	r := s.touch(s.c.y)
	if s.m.has(insertMode) {
		s.insertCells(r, s.c.x, w)
	}
	s.splitWide(r, s.c.x)
	s.splitWide(r, s.c.x+w)
	r.cells[s.c.x] = cell
	if w == 2 {
		r.cells[s.c.x+1] = Cell{Style: cell.Style, Link: cell.Link}
	}
	s.last, s.lastOK = [2]int{s.c.x, s.c.y}, true
	s.lastText = cell
	s.advance(w)
}

func (s *Screen) advance(n int) {
	s.c.x += n
	if s.c.x >= s.cols {
		s.c.x = s.cols - 1
		s.c.pending = true
	}
}

// wrapPending does the wrap that the character in the last column left undone.
func (s *Screen) wrapPending() {
	if !s.c.pending {
		return
	}
	s.c.pending = false
	if s.m.has(autowrap) {
		s.wrap()
	}
}

func (s *Screen) wrap() {
	s.touch(s.c.y).wrapped = true
	s.index()
	s.c.x = 0
}

// splitWide blanks the wide character, if any, whose two halves are at x-1 and x: one of them is about to be overwritten.
func (s *Screen) splitWide(r *row, x int) {
	if x <= 0 || x >= len(r.cells) || r.cells[x].Width != 0 {
		return
	}
	for _, c := range []*Cell{&r.cells[x-1], &r.cells[x]} {
		*c = Cell{Style: c.Style, Width: 1}
	}
}

// joinLast adds r to the grapheme cluster that was printed just before it, if it belongs there.
func (s *Screen) joinLast(r rune) bool {
	if !s.lastOK || r < 0x300 {
		return false
	}
	x, y := s.last[0], s.last[1]
	if y >= len(s.cur.rows) || x >= s.cols {
		return false
	}
	cell := &s.cur.rows[y].cells[x]
	if cell.Width == 0 || cell.Rune == 0 {
		return false
	}
	var buf [maxCluster + utf8.UTFMax*2]byte
	text := cell.appendText(buf[:0])
	n := len(text)
	text = utf8.AppendRune(text, r)
	if len(graphemes.FromBytes(text).First()) <= n {
		return false
	}
	if len(text) > maxCluster { // belongs to it, and is too much
		return true
	}
	cell = &s.touch(y).cells[x]
	cell.Comb = string(text[utf8.RuneLen(cell.Rune):])
	w := min(displaywidth.Bytes(text), 2)
	if w == 2 && cell.Width == 1 && x+1 < s.cols {
		s.splitWide(s.cur.rows[y], x+2)
		cell.Width = 2
		s.cur.rows[y].cells[x+1] = Cell{Style: cell.Style, Link: cell.Link}
		if s.c.y == y && s.c.x == x+1 && !s.c.pending {
			s.advance(1)
		}
	}
	s.lastText = *cell
	return true
}

// attach adds a character without width to the cell before the cursor.
func (s *Screen) attach(r rune) {
	x := s.c.x - 1
	if s.c.pending {
		x = s.c.x
	}
	if x > 0 && s.cur.rows[s.c.y].cells[x].Width == 0 {
		x--
	}
	if x < 0 {
		return
	}
	cell := &s.touch(s.c.y).cells[x]
	if cell.Rune != 0 && len(cell.Comb)+utf8.UTFMax*2 <= maxCluster && r != 0 {
		cell.Comb += string(r)
	}
}

// repeat is REP: the last character again. No more of them than the screen has cells are of any effect.
func (s *Screen) repeat(n int) {
	if s.lastText.Width == 0 {
		return
	}
	cell := s.lastText
	cell.Style, cell.Link = s.c.style, s.c.link
	for range min(n, s.cols*s.rows) {
		s.put(cell)
	}
}
