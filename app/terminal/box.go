package terminal

import (
	"image"
	"math"
)

// drawBox paints the characters that have to join with their neighbours: box drawing, blocks, sextants, Braille and Powerline's. It returns nil for all
// others. light is the width of a light line.
func drawBox(r rune, w, h, light int) *image.Alpha {
	p := &boxPainter{image.NewAlpha(image.Rect(0, 0, w, h)), w, h, light}
	switch {
	case r == 0x23bf: // ⎿, under which agents set the output of a tool
		x, y := middle(w, light), h*2/3
		p.rect(x, 0, x+light, y+light)
		p.rect(x, y, w, y+light)
	case r == 0x23f8: // ⏸
		p.rect(w/2-light*2, h/4, w/2-light, h*3/4)
		p.rect(w/2+light, h/4, w/2+light*2, h*3/4)
	case r >= 0x2500 && r <= 0x257f:
		p.lines(r)
	case r >= 0x2580 && r <= 0x259f:
		p.blocks(r)
	case r >= 0x2800 && r <= 0x28ff:
		p.braille(int(r - 0x2800))
	case r >= 0x1fb00 && r <= 0x1fb3b:
		p.sextant(int(r - 0x1fb00))
	case r >= 0xe0b0 && r <= 0xe0bf:
		if !p.powerline(r) {
			return nil
		}
	default:
		return nil
	}
	return p.m
}

// drawMissing is a frame for a character that no font has.
func drawMissing(w, h, light int) *image.Alpha {
	p := &boxPainter{image.NewAlpha(image.Rect(0, 0, w, h)), w, h, light}
	x0, x1, y0, y1 := w/8, w-w/8, h/5, h-h/5
	p.rect(x0, y0, x1, y0+light)
	p.rect(x0, y1-light, x1, y1)
	p.rect(x0, y0, x0+light, y1)
	p.rect(x1-light, y0, x1, y1)
	return p.m
}

type boxPainter struct {
	m           *image.Alpha
	w, h, light int
}

func (p *boxPainter) rect(x0, y0, x1, y1 int) { p.shade(x0, y0, x1, y1, 255) }

func (p *boxPainter) shade(x0, y0, x1, y1 int, a uint8) {
	for y := max(y0, 0); y < min(y1, p.h); y++ {
		for x := max(x0, 0); x < min(x1, p.w); x++ {
			p.m.Pix[y*p.m.Stride+x] = a
		}
	}
}

// cover sets each pixel to how much of it lies inside: d is the signed distance to the edge, negative inside.
func (p *boxPainter) cover(d func(x, y float64) float64) {
	for y := range p.h {
		for x := range p.w {
			c := 0.5 - d(float64(x)+0.5, float64(y)+0.5)
			if v := uint8(255 * min(max(c, 0), 1)); v > p.m.Pix[y*p.m.Stride+x] {
				p.m.Pix[y*p.m.Stride+x] = v
			}
		}
	}
}

// arms are the lines of U+2500–257F: up, right, down, left; 0 none, 1 light, 2 heavy, 3 double. Dashes, arcs and diagonals have spaces here.
const arms = "0101" + "0202" + "1010" + "2020" + "                                " +
	"0110" + "0210" + "0120" + "0220" + "0011" + "0012" + "0021" + "0022" +
	"1100" + "1200" + "2100" + "2200" + "1001" + "1002" + "2001" + "2002" +
	"1110" + "1210" + "2110" + "1120" + "2120" + "2210" + "1220" + "2220" +
	"1011" + "1012" + "2011" + "1021" + "2021" + "2012" + "1022" + "2022" +
	"0111" + "0112" + "0211" + "0212" + "0121" + "0122" + "0221" + "0222" +
	"1101" + "1102" + "1201" + "1202" + "2101" + "2102" + "2201" + "2202" +
	"1111" + "1112" + "1211" + "1212" + "2111" + "1121" + "2121" + "2112" +
	"2211" + "1122" + "1221" + "2212" + "1222" + "2122" + "2221" + "2222" + "                " +
	"0303" + "3030" + "0310" + "0130" + "0330" + "0013" + "0031" + "0033" +
	"1300" + "3100" + "3300" + "1003" + "3001" + "3003" +
	"1310" + "3130" + "3330" + "1013" + "3031" + "3033" +
	"0313" + "0131" + "0333" + "1303" + "3101" + "3303" + "1313" + "3131" + "3333" +
	"                            " +
	"0001" + "1000" + "0100" + "0010" + "0002" + "2000" + "0200" + "0020" + "0201" + "1020" + "0102" + "2010"

func (p *boxPainter) lines(r rune) {
	switch {
	case r >= 0x2504 && r <= 0x250b:
		n := int(r - 0x2504)
		p.dashes(3+n/4, n%4 >= 2, n%2 == 1)
	case r >= 0x254c && r <= 0x254f:
		n := int(r - 0x254c)
		p.dashes(2, n >= 2, n%2 == 1)
	case r >= 0x256d && r <= 0x2570:
		p.arc(r)
	case r >= 0x2571 && r <= 0x2573:
		p.diagonals(r)
	default:
		i := int(r-0x2500) * 4
		var a [4]int
		for k := range a {
			a[k] = int(arms[i+k] - '0')
		}
		p.cross(a[0], a[1], a[2], a[3])
	}
}

func (p *boxPainter) heavy() int { return 2*p.light + p.light%2 }

// middle is where a line of the given width begins, so that lines of all widths have one axis.
func middle(size, width int) int { return (size - width) / 2 }

// cross paints the four arms. A line of one arm reaches as far over the centre as the arms across it are wide, so that corners are whole.
func (p *boxPainter) cross(up, right, down, left int) {
	l := p.light
	x, y := middle(p.w, l), middle(p.h, l)
	width := func(kind int) int {
		if kind == 2 {
			return p.heavy()
		}
		return l
	}
	// single and heavy arms
	vertical := max(width2(up, p), width2(down, p))
	horizontal := max(width2(left, p), width2(right, p))
	solid := func(kind int) bool { return kind == 1 || kind == 2 }
	if solid(right) || solid(left) {
		reach := vertical
		if reach == 0 {
			reach = l
		}
		c := middle(p.w, reach)
		if solid(right) {
			w := width(right)
			from := c
			if up == 3 && down == 3 {
				if left == 0 {
					from = x + l
				} else {
					from = 0
				}
			} else if up == 3 || down == 3 {
				from = x - l
			}
			p.rect(from, middle(p.h, w), p.w, middle(p.h, w)+w)
		}
		if solid(left) {
			w := width(left)
			to := c + reach
			if up == 3 && down == 3 {
				if right == 0 {
					to = x
				} else {
					to = p.w
				}
			} else if up == 3 || down == 3 {
				to = x + 2*l
			}
			p.rect(0, middle(p.h, w), to, middle(p.h, w)+w)
		}
	}
	if solid(up) || solid(down) {
		reach := horizontal
		if reach == 0 {
			reach = l
		}
		c := middle(p.h, reach)
		if solid(down) {
			w := width(down)
			from := c
			if left == 3 && right == 3 {
				if up == 0 {
					from = y + l
				} else {
					from = 0
				}
			} else if left == 3 || right == 3 {
				from = y - l
			}
			p.rect(middle(p.w, w), from, middle(p.w, w)+w, p.h)
		}
		if solid(up) {
			w := width(up)
			to := c + reach
			if left == 3 && right == 3 {
				if down == 0 {
					to = y
				} else {
					to = p.h
				}
			} else if left == 3 || right == 3 {
				to = y + 2*l
			}
			p.rect(middle(p.w, w), 0, middle(p.w, w)+w, to)
		}
	}
	p.doubles(up, right, down, left, x, y)
}

func width2(kind int, p *boxPainter) int {
	switch kind {
	case 1:
		return p.light
	case 2:
		return p.heavy()
	case 3:
		return p.light
	}
	return 0
}

// doubles paints the arms that are double lines; x, y is where a light line on the axis begins. Each of the two strips ends at the strip or line across it
// that it meets first, seen from its own side.
func (p *boxPainter) doubles(up, right, down, left, x, y int) {
	l := p.light
	// near gives how far inside a strip begins, in line widths from the axis: +1 stops short, -1 reaches over.
	near := func(same, other int) int {
		switch {
		case same == 3:
			return 1
		case same != 0:
			return 0
		case other == 3:
			return -1
		}
		return 0
	}
	if right == 3 {
		p.rect(x+l*near(up, down), y-l, p.w, y)
		p.rect(x+l*near(down, up), y+l, p.w, y+2*l)
	}
	if left == 3 {
		p.rect(0, y-l, x+l-l*near(up, down), y)
		p.rect(0, y+l, x+l-l*near(down, up), y+2*l)
	}
	if down == 3 {
		p.rect(x-l, y+l*near(left, right), x, p.h)
		p.rect(x+l, y+l*near(right, left), x+2*l, p.h)
	}
	if up == 3 {
		p.rect(x-l, 0, x, y+l-l*near(left, right))
		p.rect(x+l, 0, x+2*l, y+l-l*near(right, left))
	}
}

func (p *boxPainter) dashes(n int, vertical, heavy bool) {
	t := p.light
	if heavy {
		t = p.heavy()
	}
	size := p.w
	if vertical {
		size = p.h
	}
	for i := range n {
		a, b := i*size/n, (i+1)*size/n
		gap := max(1, (b-a)/3)
		a, b = a+gap/2, b-(gap-gap/2)
		if vertical {
			p.rect(middle(p.w, t), a, middle(p.w, t)+t, b)
		} else {
			p.rect(a, middle(p.h, t), b, middle(p.h, t)+t)
		}
	}
}

// arc paints a rounded corner: two straight ends and a quarter of a circle.
func (p *boxPainter) arc(r rune) {
	l := p.light
	x, y := middle(p.w, l), middle(p.h, l)
	cx, cy := float64(x)+float64(l)/2, float64(y)+float64(l)/2
	radius := min(float64(p.w)-cx, float64(p.h)-cy, cx, cy)
	right := r == 0x256d || r == 0x2570
	down := r == 0x256d || r == 0x256e
	ox, oy := cx-radius, cy-radius
	if right {
		ox = cx + radius
	}
	if down {
		oy = cy + radius
	}
	p.cover(func(px, py float64) float64 {
		if (px <= ox) != right || (py <= oy) != down {
			return 1
		}
		return math.Abs(math.Hypot(px-ox, py-oy)-radius) - float64(l)/2
	})
	if down {
		p.rect(x, int(math.Ceil(oy-0.5)), x+l, p.h)
	} else {
		p.rect(x, 0, x+l, int(math.Floor(oy+0.5)))
	}
	if right {
		p.rect(int(math.Ceil(ox-0.5)), y, p.w, y+l)
	} else {
		p.rect(0, y, int(math.Floor(ox+0.5)), y+l)
	}
}

func (p *boxPainter) diagonals(r rune) {
	w, h, half := float64(p.w), float64(p.h), float64(p.light)/2
	n := math.Hypot(w, h)
	if r != 0x2572 { // ╱
		p.cover(func(x, y float64) float64 { return math.Abs(x*h+y*w-w*h)/n - half })
	}
	if r != 0x2571 { // ╲
		p.cover(func(x, y float64) float64 { return math.Abs(x*h-y*w)/n - half })
	}
}

func (p *boxPainter) blocks(r rune) {
	w, h := p.w, p.h
	eighth := func(size, n int) int { return (size*n + 4) / 8 }
	switch {
	case r == 0x2580:
		p.rect(0, 0, w, eighth(h, 4))
	case r <= 0x2588:
		p.rect(0, h-eighth(h, int(r-0x2580)), w, h)
	case r <= 0x258f:
		p.rect(0, 0, eighth(w, int(0x2590-r)), h)
	case r == 0x2590:
		p.rect(eighth(w, 4), 0, w, h)
	case r <= 0x2593:
		p.shade(0, 0, w, h, uint8(64*(r-0x2590)))
	case r == 0x2594:
		p.rect(0, 0, w, max(1, eighth(h, 1)))
	case r == 0x2595:
		p.rect(w-max(1, eighth(w, 1)), 0, w, h)
	default:
		// Quadrants of U+2596–259F: upper left 1, upper right 2, lower left 4, lower right 8.
		set := [...]int{4, 8, 1, 13, 9, 7, 11, 2, 6, 14}[r-0x2596]
		mx, my := eighth(w, 4), eighth(h, 4)
		for i, q := range [][4]int{{0, 0, mx, my}, {mx, 0, w, my}, {0, my, mx, h}, {mx, my, w, h}} {
			if set>>i&1 != 0 {
				p.rect(q[0], q[1], q[2], q[3])
			}
		}
	}
}

// sextant paints two columns of three; the numbers leave out those that are blocks already.
func (p *boxPainter) sextant(n int) {
	n++
	if n >= 21 {
		n++
	}
	if n >= 42 {
		n++
	}
	for i := range 6 {
		if n>>i&1 != 0 {
			c, row := i%2, i/2
			p.rect(c*p.w/2, row*p.h/3, (c+1)*p.w/2, (row+1)*p.h/3)
		}
	}
}

func (p *boxPainter) braille(dots int) {
	size := max(1, min(p.w/4, p.h/8)+p.light/2)
	for i := range 8 {
		if dots>>i&1 == 0 {
			continue
		}
		col, row := i/3, i%3
		if i >= 6 {
			col, row = i-6, 3
		}
		x := (2*col+1)*p.w/4 - size/2
		y := (2*row+1)*p.h/8 - size/2
		p.rect(x, y, x+size, y+size)
	}
}

func (p *boxPainter) powerline(r rune) bool {
	w, h := float64(p.w), float64(p.h)
	n := math.Hypot(w, h/2)
	// edge is the distance to the right of a triangle that points right.
	edge := func(x, y float64) float64 { return (x*h/2 - w*(h/2-math.Abs(y-h/2))) / n }
	half := float64(p.light) / 2
	switch r {
	case 0xe0b0:
		p.cover(edge)
	case 0xe0b1:
		p.cover(func(x, y float64) float64 { return math.Abs(edge(x, y)+half) - half })
	case 0xe0b2:
		p.cover(func(x, y float64) float64 { return edge(w-x, y) })
	case 0xe0b3:
		p.cover(func(x, y float64) float64 { return math.Abs(edge(w-x, y)+half) - half })
	case 0xe0b4:
		p.cover(func(x, y float64) float64 { return (math.Hypot(x/w, (y-h/2)/(h/2)) - 1) * w })
	case 0xe0b6:
		p.cover(func(x, y float64) float64 { return (math.Hypot((w-x)/w, (y-h/2)/(h/2)) - 1) * w })
	case 0xe0b8:
		p.cover(func(x, y float64) float64 { return (x*h - y*w) / math.Hypot(w, h) })
	case 0xe0ba:
		p.cover(func(x, y float64) float64 { return (w*h - x*h - y*w) / math.Hypot(w, h) })
	case 0xe0bc:
		p.cover(func(x, y float64) float64 { return (x*h + y*w - w*h) / math.Hypot(w, h) })
	case 0xe0be:
		p.cover(func(x, y float64) float64 { return (y*w - x*h) / math.Hypot(w, h) })
	default:
		return false
	}
	return true
}
