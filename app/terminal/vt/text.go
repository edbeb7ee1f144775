package vt

import (
	"strings"
	"unicode"
)

// Position is a cell by its line's absolute number.
type Position struct{ Line, Col int }

// Before orders positions as text is read.
func (p Position) Before(q Position) bool {
	return p.Line < q.Line || p.Line == q.Line && p.Col < q.Col
}

// Span is text from its first to its last cell, both inside. With Block it is the rectangle between them.
type Span struct {
	From, To Position
	Block    bool
}

// Columns is the part of line n that is inside: from..to-1 of a line of cols cells.
func (sp Span) Columns(n, cols int) (from, to int) {
	a, b := sp.ordered()
	if n < a.Line || n > b.Line {
		return 0, 0
	}
	if sp.Block {
		return min(min(a.Col, b.Col), cols), min(max(a.Col, b.Col)+1, cols)
	}
	to = cols
	if n == a.Line {
		from = min(a.Col, cols)
	}
	if n == b.Line {
		to = min(b.Col+1, cols)
	}
	return from, max(from, to)
}

func (sp Span) ordered() (a, b Position) {
	if sp.To.Before(sp.From) {
		return sp.To, sp.From
	}
	return sp.From, sp.To
}

// bounds are the absolute numbers of the oldest line that is kept and of the one after the last.
func (s *Screen) bounds() (first, base, end int) {
	base = s.hist.gone + s.hist.n
	first = s.hist.gone
	if s.cur == &s.alt {
		first = base
	}
	return first, base, base + s.rows
}

// line gives the cells of a line by its absolute number, in buf if they have to be unpacked.
func (s *Screen) line(n int, buf []Cell) (cells []Cell, wrapped, ok bool) {
	first, base, end := s.bounds()
	switch {
	case n < first || n >= end:
		return nil, false, false
	case n < base:
		l := s.hist.at(n - s.hist.gone)
		l.unpack(buf[:s.cols])
		return buf[:s.cols], l.wrapped, true
	}
	r := s.cur.rows[n-base]
	return r.cells, r.wrapped, true
}

// Text is what sp covers: lines that were only wrapped are joined, blanks at the ends of lines are left away.
func (s *Screen) Text(sp Span) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, b := sp.ordered()
	first, _, end := s.bounds()
	if a.Line < first {
		a = Position{first, 0}
	}
	buf := make([]Cell, s.cols)
	var out []byte
	padded := false
	for n := a.Line; n <= b.Line && n < end; n++ {
		cells, wrapped, ok := s.line(n, buf)
		if !ok {
			continue
		}
		if padded && cells[0].Width == 2 { // the blank where this character did not fit is no text
			out = out[:len(out)-1]
		}
		from, to := sp.Columns(n, len(cells))
		if from > 0 && from < to && cells[from].Width == 0 {
			from--
		}
		start := len(out)
		for i := from; i < to; i++ {
			out = cells[i].appendText(out)
		}
		joins := wrapped && !sp.Block && to == len(cells) && n < b.Line
		padded = joins && to > from && cells[to-1].Rune == 0 && cells[to-1].Width == 1
		if joins {
			continue
		}
		for len(out) > start && out[len(out)-1] == ' ' {
			out = out[:len(out)-1]
		}
		if n < b.Line && n < end-1 {
			out = append(out, '\n')
		}
	}
	return string(out)
}

// Word is the word at p: letters, digits and what stands inside of paths and addresses; or a run of blanks; or one other character.
func (s *Screen) Word(p Position) Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	span := Span{From: p, To: p}
	cells, _, ok := s.line(p.Line, make([]Cell, s.cols))
	if !ok || p.Col < 0 || p.Col >= len(cells) {
		return span
	}
	kind := func(i int) int {
		if cells[i].Width == 0 && i > 0 {
			i--
		}
		switch r := cells[i].Rune; {
		case r == 0 || r == ' ':
			return 0
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) || strings.ContainsRune("_-./~:@%+#?&=", r):
			return 1
		}
		return 2 + i
	}
	k := kind(p.Col)
	for span.From.Col > 0 && kind(span.From.Col-1) == k {
		span.From.Col--
	}
	for span.To.Col < len(cells)-1 && kind(span.To.Col+1) == k {
		span.To.Col++
	}
	return span
}

// WholeLine is the line at p with those that it was wrapped from and into.
func (s *Screen) WholeLine(p Position) Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to := s.wholeLine(p.Line)
	return Span{From: Position{from, 0}, To: Position{to, s.cols - 1}}
}

func (s *Screen) wholeLine(n int) (from, to int) {
	to = n
	for i := 0; i < maxJoin && s.goesOn(to); i++ {
		to++
	}
	_, _, end := s.bounds()
	return s.lineStart(n), min(to, end-1)
}

// lineStart is where the line that n is a part of begins.
func (s *Screen) lineStart(n int) int {
	from := n
	for n-from < maxJoin && s.goesOn(from-1) {
		from--
	}
	return from
}

// goesOn says whether line n was wrapped into the next.
func (s *Screen) goesOn(n int) bool {
	first, base, end := s.bounds()
	switch {
	case n < first || n >= end:
		return false
	case n < base:
		return s.hist.at(n - s.hist.gone).wrapped
	}
	return s.cur.rows[n-base].wrapped
}

// All is everything that is kept, scrollback and screen, but for blank lines at the end.
func (s *Screen) All() Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, base, end := s.bounds()
	for end > base+1 && used(s.cur.rows[end-base-1].cells) == 0 {
		end--
	}
	return Span{From: Position{first, 0}, To: Position{end - 1, s.cols - 1}}
}

// Find returns the places where query stands, letters of either case alike, the oldest first and at most limit of them, those nearest to the end. Text that
// was only wrapped is searched as one line.
func (s *Screen) Find(query string, limit int) []Span {
	want := []rune(strings.ToLower(query))
	if len(want) == 0 || len(want) > 1000 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first, _, end := s.bounds()
	var found []Span
	var j joined
	for n := end - 1; n >= first && len(found) < limit; {
		from := s.lineStart(n)
		s.runes(&j, from, n)
		text, at := j.text, j.at
		for i := len(text) - len(want); i >= 0 && len(found) < limit; i-- {
			if equal(text[i:i+len(want)], want) {
				found = append(found, Span{From: at[i], To: at[i+len(want)-1]})
			}
		}
		n = from - 1
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found
}

func equal(a, b []rune) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// joined is a line that was wrapped, put together: its characters in lower case, and where each stands.
type joined struct {
	text []rune
	at   []Position
	buf  []Cell
}

// runes fills j with the lines from..to, in the memory that it has.
func (s *Screen) runes(j *joined, from, to int) {
	j.text, j.at = j.text[:0], j.at[:0]
	if len(j.buf) < s.cols {
		j.buf = make([]Cell, s.cols)
	}
	for n := from; n <= to; n++ {
		cells, wrapped, ok := s.line(n, j.buf)
		if !ok {
			continue
		}
		if !wrapped {
			cells = cells[:used(cells)]
		}
		for x := range cells {
			c := &cells[x]
			if c.Width == 0 {
				continue
			}
			r := c.Rune
			if r == 0 {
				r = ' '
			}
			j.text = append(j.text, unicode.ToLower(r))
			j.at = append(j.at, Position{n, x})
			for _, r := range c.Comb {
				j.text = append(j.text, unicode.ToLower(r))
				j.at = append(j.at, Position{n, x})
			}
		}
	}
}

// LinkAt is the address of the link at p, and the cells that it covers in its line: one that the program made (OSC 8), or a web address in the text.
// It is what the program says: ask before going there.
func (s *Screen) LinkAt(p Position) (uri string, span Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cells, _, ok := s.line(p.Line, make([]Cell, s.cols))
	if !ok || p.Col < 0 || p.Col >= len(cells) {
		return "", span
	}
	if n := cells[p.Col].Link; n != 0 {
		if e := s.links.get(n); e != nil {
			from, to := p.Col, p.Col
			for from > 0 && cells[from-1].Link == n {
				from--
			}
			for to < len(cells)-1 && cells[to+1].Link == n {
				to++
			}
			return e.uri, Span{From: Position{p.Line, from}, To: Position{p.Line, to}}
		}
	}
	from, to := s.wholeLine(p.Line)
	var j joined
	s.runes(&j, from, to)
	for i, at := range j.at {
		if at == p {
			return s.addressAround(j.text, j.at, i)
		}
	}
	return "", span
}

func (s *Screen) addressAround(text []rune, at []Position, i int) (string, Span) {
	inside := func(r rune) bool {
		return r > ' ' && !unicode.IsSpace(r) && !strings.ContainsRune("<>\"'`|\\^{}│┃", r)
	}
	if !inside(text[i]) {
		return "", Span{}
	}
	from, to := i, i+1
	for from > 0 && inside(text[from-1]) && i-from < maxLinkURI {
		from--
	}
	for to < len(text) && inside(text[to]) && to-i < maxLinkURI {
		to++
	}
	lower := string(text[from:to])
	for _, scheme := range []string{"https://", "http://"} {
		k := strings.Index(lower, scheme)
		if k < 0 {
			continue
		}
		from += len([]rune(lower[:k]))
		for to > from && strings.ContainsRune(".,;:!?)]", text[to-1]) {
			if text[to-1] == ')' && strings.ContainsRune(string(text[from:to-1]), '(') {
				break
			}
			to--
		}
		if i < from || i >= to || to-from <= len(scheme) {
			return "", Span{}
		}
		span := Span{From: at[from], To: at[to-1]}
		return s.exact(span), span
	}
	return "", Span{}
}

// exact is the text of a span with its letters' case, wrapped lines joined.
func (s *Screen) exact(sp Span) string {
	buf := make([]Cell, s.cols)
	var out []byte
	for n := sp.From.Line; n <= sp.To.Line; n++ {
		cells, _, ok := s.line(n, buf)
		if !ok {
			return ""
		}
		from, to := sp.Columns(n, len(cells))
		for i := from; i < to; i++ {
			out = cells[i].appendText(out)
		}
	}
	return string(out)
}

// Lines are the absolute numbers of the oldest line that is kept, and of the one that is at the top when nothing is scrolled back.
func (s *Screen) Lines() (first, base int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, base, _ = s.bounds()
	return first, base
}
