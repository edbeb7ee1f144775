package vt

// maxHistoryBytes bounds the scrollback beside its number of lines, for a program that styles each cell differently.
const maxHistoryBytes = 64 << 20

// history is the scrollback: a ring of packed lines.
type history struct {
	max   int
	lines []packedLine
	head  int // index of the oldest in lines
	n     int
	bytes int
	gone  int // lines that were dropped at the old end
}

// packedLine is a row in a fifth of its memory: trailing blanks cut, styles told once.
type packedLine struct {
	cells   []packedCell
	looks   []look
	combs   []string
	id      uint64
	wrapped bool
	width   int32 // of the row that it was
}

type packedCell struct {
	r     rune
	look  uint16
	comb  uint8 // index in combs + 1
	width uint8
}

type look struct {
	style Style
	link  uint32
}

func pack(r *row) packedLine {
	n := used(r.cells)
	if r.wrapped {
		n = len(r.cells)
	}
	l := packedLine{id: r.id, wrapped: r.wrapped, width: int32(len(r.cells))}
	if n == 0 {
		return l
	}
	l.cells = make([]packedCell, n)
	for i := range r.cells[:n] {
		c := &r.cells[i]
		k := look{c.Style, c.Link}
		at := len(l.looks) - 1
		if at < 0 || l.looks[at] != k {
			at = l.find(k)
		}
		p := packedCell{r: c.Rune, look: uint16(at), width: c.Width}
		if c.Comb != "" && len(l.combs) < 255 {
			l.combs = append(l.combs, c.Comb)
			p.comb = uint8(len(l.combs))
		}
		l.cells[i] = p
	}
	return l
}

// find returns the index of k, among the last few or new.
func (l *packedLine) find(k look) int {
	for i := len(l.looks) - 1; i >= 0 && i >= len(l.looks)-8; i-- {
		if l.looks[i] == k {
			return i
		}
	}
	l.looks = append(l.looks, k) // at most one for each cell: MaxCols fits
	return len(l.looks) - 1
}

// unpack writes the line over cells, cut or padded to their number.
func (l *packedLine) unpack(cells []Cell) {
	n := min(len(l.cells), len(cells))
	for i, p := range l.cells[:n] {
		k := &l.looks[p.look]
		c := Cell{Rune: p.r, Width: p.width, Style: k.style, Link: k.link}
		if p.comb > 0 {
			c.Comb = l.combs[p.comb-1]
		}
		cells[i] = c
	}
	blank(cells[n:], Style{})
	if n > 0 && n < len(l.cells) && l.cells[n].width == 0 { // a wide character was cut in half
		blank(cells[n-1:n], Style{})
	}
}

func (l *packedLine) size() int {
	n := 128 + 8*cap(l.cells) + 24*cap(l.looks)
	for _, c := range l.combs {
		n += 16 + len(c)
	}
	return n
}

func (h *history) push(r *row) { h.pushLine(pack(r)) }

func (h *history) pushLine(l packedLine) {
	if h.max == 0 {
		h.gone++
		return
	}
	for h.n > 0 && (h.n >= h.max || h.bytes+l.size() > maxHistoryBytes) {
		h.dropOldest()
	}
	if h.n == len(h.lines) {
		h.grow()
	}
	h.lines[(h.head+h.n)%len(h.lines)] = l
	h.n++
	h.bytes += l.size()
}

func (h *history) dropOldest() {
	old := &h.lines[h.head]
	h.bytes -= old.size()
	*old = packedLine{}
	h.head = (h.head + 1) % len(h.lines)
	h.n--
	h.gone++
}

func (h *history) grow() {
	lines := make([]packedLine, min(max(2*len(h.lines), 256), h.max))
	for i := range h.n {
		lines[i] = *h.at(i)
	}
	h.lines, h.head = lines, 0
}

// at is the i-th line, the oldest first.
func (h *history) at(i int) *packedLine { return &h.lines[(h.head+i)%len(h.lines)] }

// pop takes the newest line back.
func (h *history) pop() packedLine {
	h.n--
	p := &h.lines[(h.head+h.n)%len(h.lines)]
	l := *p
	*p = packedLine{}
	h.bytes -= l.size()
	return l
}

func (h *history) clear() {
	*h = history{max: h.max, gone: h.gone + h.n}
}
