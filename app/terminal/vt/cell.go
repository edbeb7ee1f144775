package vt

import "unicode/utf8"

// Attr is a set of text attributes.
type Attr uint16

const (
	Bold Attr = 1 << iota
	Dim
	Italic
	Blink
	Inverse
	Hidden
	Strike
	Overline
)

// Underline is the shape of the line under a cell; the numbers are those of SGR 4:n.
type Underline uint8

const (
	NoUnderline Underline = iota
	SingleUnderline
	DoubleUnderline
	CurlyUnderline
	DottedUnderline
	DashedUnderline
)

// Style is how a cell looks.
type Style struct {
	FG, BG, UnderlineColor Color
	Attr                   Attr
	Underline              Underline
}

// Cell is one position of the grid. A blank cell has Rune 0 and Width 1; the right half of a wide character has Width 0.
type Cell struct {
	Rune  rune
	Comb  string // the rest of the grapheme cluster, at most maxCluster bytes
	Style Style
	Link  uint32 // asked of Screen.LinkAt; 0 is none
	Width uint8
}

// Text is the cell's grapheme cluster; a blank cell's is a space, a right half's is empty.
func (c *Cell) Text() string {
	if c.Width == 0 {
		return ""
	}
	if c.Rune == 0 {
		return " "
	}
	return string(c.Rune) + c.Comb
}

func (c *Cell) appendText(b []byte) []byte {
	if c.Width == 0 {
		return b
	}
	if c.Rune == 0 {
		return append(b, ' ')
	}
	return append(utf8.AppendRune(b, c.Rune), c.Comb...)
}

// visible says that leaving the cell away at the end of a line would change what is seen.
func (c *Cell) visible() bool {
	return c.Rune != 0 && c.Rune != ' ' || c.Width == 0 || c.Style.BG != 0 ||
		c.Style.Attr&(Inverse|Strike|Overline) != 0 || c.Style.Underline != 0
}

// row is one line of a screen. Its id changes whenever its content does, and no two contents share one.
type row struct {
	cells   []Cell
	wrapped bool // the text goes on in the next row
	id      uint64
}

func newRow(cols int, st Style, id uint64) *row {
	r := &row{cells: make([]Cell, cols)}
	r.clear(st, id)
	return r
}

func (r *row) clear(st Style, id uint64) {
	blank(r.cells, st)
	r.wrapped = false
	r.id = id
}

func blank(cells []Cell, st Style) {
	b := Cell{Style: Style{BG: st.BG}, Width: 1}
	for i := range cells {
		cells[i] = b
	}
}

// used is the number of cells up to the last one that is not a plain blank.
func used(cells []Cell) int {
	n := len(cells)
	for n > 0 && !cells[n-1].visible() {
		n--
	}
	return n
}
