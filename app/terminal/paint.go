package terminal

import (
	"image"

	"capsid/app/terminal/vt"
)

// decor is what is drawn over a line beside its own content. It is comparable: a row is painted anew when its line or its decor changed.
type decor struct {
	cursor           int8 // a cursorLook
	cursorX          int
	selFrom, selTo   int
	linkFrom, linkTo int
	marks            marks
	palette          *vt.Palette
	reverse          bool
	face             *face
	selection        vt.RGB
}

// marks are the columns of search results in one line, two numbers for each, and the one that is looked at first.
type marks struct {
	at [2 * maxMarks]int16
	n  int8
	on int8 // index of the current one, or -1
}

const maxMarks = 12

type cursorLook = int8

const (
	cursorNone cursorLook = iota
	cursorHollow
	cursorBlock
	cursorBar
	cursorUnderline
)

var (
	markColor    = vt.RGB{R: 0x8a, G: 0x6d, B: 0x1d}
	markOnColor  = vt.RGB{R: 0xff, G: 0xc8, B: 0x3d}
	markOnText   = vt.RGB{R: 0x10, G: 0x10, B: 0x10}
	markRestText = vt.RGB{R: 0xff, G: 0xff, B: 0xff}
)

// paintRow draws a line into dst, which is as high as a cell and as wide as the line.
func paintRow(dst *image.RGBA, line *vt.Line, d *decor) {
	f := d.face
	cells := line.Cells
	looks := make([]cellLook, len(cells))
	for x := range cells {
		looks[x] = d.look(&cells[x], x)
	}
	for x := 0; x < len(cells); {
		end := x + 1
		for end < len(cells) && looks[end].bg == looks[x].bg {
			end++
		}
		fill(dst, x*f.cellW, 0, end*f.cellW, f.cellH, looks[x].bg)
		x = end
	}
	cx := d.cursorX
	if d.cursor != cursorNone && cx > 0 && cx < len(cells) && cells[cx].Width == 0 {
		cx--
	}
	for x := range cells {
		c := &cells[x]
		if c.Width == 0 {
			continue
		}
		fg := looks[x].fg
		if x == cx && d.cursor == cursorBlock {
			fill(dst, x*f.cellW, 0, (x+int(c.Width))*f.cellW, f.cellH, d.palette.Cursor)
			fg = contrast(d.palette.Cursor, looks[x].bg, looks[x].fg)
		}
		d.paintCell(dst, c, x, fg, looks[x])
	}
	if d.cursor != cursorNone && cx >= 0 && cx < len(cells) {
		d.paintCursor(dst, cx, max(int(cells[cx].Width), 1))
	}
}

// contrast picks the one of a and b that is easier to read on ground.
func contrast(ground, a, b vt.RGB) vt.RGB {
	if distance(ground, a) >= distance(ground, b) {
		return a
	}
	return b
}

func distance(a, b vt.RGB) int {
	abs := func(x, y uint8) int { return max(int(x)-int(y), int(y)-int(x)) }
	return 3*abs(a.R, b.R) + 6*abs(a.G, b.G) + abs(a.B, b.B)
}

type cellLook struct{ fg, bg vt.RGB }

// look resolves the colours of one cell.
func (d *decor) look(c *vt.Cell, x int) cellLook {
	p := d.palette
	deffg, defbg := p.Foreground, p.Background
	if d.reverse {
		deffg, defbg = defbg, deffg
	}
	st := &c.Style
	l := cellLook{p.Resolve(st.FG, deffg), p.Resolve(st.BG, defbg)}
	if st.Attr&vt.Inverse != 0 {
		l.fg, l.bg = l.bg, l.fg
	}
	if st.Attr&vt.Dim != 0 {
		l.fg = mix(l.fg, l.bg, 110)
	}
	if st.Attr&vt.Hidden != 0 {
		l.fg = l.bg
	}
	if x >= d.selFrom && x < d.selTo {
		if l.bg == d.selection || distance(l.fg, d.selection) < 200 {
			l.fg = contrast(d.selection, deffg, defbg)
		}
		l.bg = d.selection
	}
	for i := range d.marks.n {
		if int16(x) >= d.marks.at[2*i] && int16(x) < d.marks.at[2*i+1] {
			l = cellLook{markRestText, markColor}
			if i == d.marks.on {
				l = cellLook{markOnText, markOnColor}
			}
		}
	}
	return l
}

// mix is a with n/256 of b.
func mix(a, b vt.RGB, n int) vt.RGB {
	m := func(x, y uint8) uint8 { return uint8((int(x)*(256-n) + int(y)*n) >> 8) }
	return vt.RGB{R: m(a.R, b.R), G: m(a.G, b.G), B: m(a.B, b.B)}
}

func (d *decor) paintCell(dst *image.RGBA, c *vt.Cell, x int, fg vt.RGB, l cellLook) {
	f := d.face
	x0 := x * f.cellW
	if c.Rune > ' ' && (l.fg != l.bg || fg != l.fg) {
		k := glyphKey{cells: c.Width}
		if c.Style.Attr&vt.Bold != 0 {
			k.style |= faceBold
		}
		if c.Style.Attr&vt.Italic != 0 {
			k.style |= faceItalic
		}
		if i := int(c.Rune - ' '); i < len(printable) && c.Comb == "" {
			k.text = printable[i : i+1]
		} else {
			k.text = c.Text()
		}
		if g := f.glyph(k); g.mask != nil {
			blend(dst, g.mask, x0+g.at.X, g.at.Y, fg)
		}
	}
	x1 := x0 + f.cellW*int(c.Width)
	under := c.Style.Underline
	linked := x >= d.linkFrom && x < d.linkTo
	if under == vt.NoUnderline && (linked || c.Link != 0) {
		under = vt.DottedUnderline
		if linked {
			under = vt.SingleUnderline
		}
	}
	if under != vt.NoUnderline {
		d.paintUnderline(dst, under, x0, x1, d.palette.Resolve(c.Style.UnderlineColor, fg))
	}
	if c.Style.Attr&vt.Strike != 0 {
		y := f.baseline - f.baseline/3
		fill(dst, x0, y, x1, y+f.thick, fg)
	}
	if c.Style.Attr&vt.Overline != 0 {
		fill(dst, x0, 0, x1, f.thick, fg)
	}
}

// printable spares an allocation for each cell that is looked up.
const printable = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

func (d *decor) paintUnderline(dst *image.RGBA, u vt.Underline, x0, x1 int, c vt.RGB) {
	f := d.face
	y, t := f.underline, f.thick
	switch u {
	case vt.SingleUnderline:
		fill(dst, x0, y, x1, y+t, c)
	case vt.DoubleUnderline:
		y = min(y, f.cellH-3*t)
		fill(dst, x0, y, x1, y+t, c)
		fill(dst, x0, y+2*t, x1, y+3*t, c)
	case vt.DottedUnderline:
		for x := x0 - x0%(2*t); x < x1; x += 2 * t {
			fill(dst, max(x, x0), y, min(x+t, x1), y+t, c)
		}
	case vt.DashedUnderline:
		for x := x0 - x0%f.cellW; x < x1; x += f.cellW {
			fill(dst, x, y, x+f.cellW*2/3, y+t, c)
		}
	case vt.CurlyUnderline:
		// A triangle wave two thicknesses high, with the cell as its period so that it joins.
		y = min(y, f.cellH-3*t)
		for x := x0; x < x1; x++ {
			phase := x % f.cellW * 4 * t / f.cellW
			if phase > 2*t {
				phase = 4*t - phase
			}
			fill(dst, x, y+phase, x+1, y+phase+t, c)
		}
	}
}

func (d *decor) paintCursor(dst *image.RGBA, x, cells int) {
	f := d.face
	x0, x1, c := x*f.cellW, (x+cells)*f.cellW, d.palette.Cursor
	w := max(f.thick, (f.cellW+4)/8)
	switch d.cursor {
	case cursorBar:
		w = max(2, w)
		fill(dst, x0, 0, x0+w, f.cellH, c)
	case cursorUnderline:
		w = max(2, w)
		fill(dst, x0, f.cellH-w, x1, f.cellH, c)
	case cursorHollow:
		fill(dst, x0, 0, x1, w, c)
		fill(dst, x0, f.cellH-w, x1, f.cellH, c)
		fill(dst, x0, 0, x0+w, f.cellH, c)
		fill(dst, x1-w, 0, x1, f.cellH, c)
	}
}

// fill paints a rectangle, cut to the image.
func fill(dst *image.RGBA, x0, y0, x1, y1 int, c vt.RGB) {
	b := dst.Rect
	x0, y0, x1, y1 = max(x0, b.Min.X), max(y0, b.Min.Y), min(x1, b.Max.X), min(y1, b.Max.Y)
	if x0 >= x1 || y0 >= y1 {
		return
	}
	first := dst.Pix[dst.PixOffset(x0, y0):dst.PixOffset(x1, y0)]
	for i := 0; i < len(first); i += 4 {
		first[i], first[i+1], first[i+2], first[i+3] = c.R, c.G, c.B, 255
	}
	for y := y0 + 1; y < y1; y++ {
		copy(dst.Pix[dst.PixOffset(x0, y):], first)
	}
}

// blend paints colour c through a mask put at x, y.
func blend(dst *image.RGBA, mask *image.Alpha, x, y int, c vt.RGB) {
	w, h := mask.Rect.Dx(), mask.Rect.Dy()
	from, to := max(0, -x), min(w, dst.Rect.Max.X-x)
	if from >= to {
		return
	}
	for my := max(0, -y); my < min(h, dst.Rect.Max.Y-y); my++ {
		src := mask.Pix[my*mask.Stride+from : my*mask.Stride+to]
		out := dst.Pix[dst.PixOffset(x+from, y+my):dst.PixOffset(x+to, y+my)]
		for i, a := range src {
			if a == 0 {
				continue
			}
			px := out[4*i : 4*i+4 : 4*i+4]
			if a == 255 {
				px[0], px[1], px[2] = c.R, c.G, c.B
				continue
			}
			n := uint32(a) + uint32(a)>>7 // 0–256
			px[0] = uint8((uint32(px[0])*(256-n) + uint32(c.R)*n) >> 8)
			px[1] = uint8((uint32(px[1])*(256-n) + uint32(c.G)*n) >> 8)
			px[2] = uint8((uint32(px[2])*(256-n) + uint32(c.B)*n) >> 8)
		}
	}
}
