package terminal

import (
	"image"
	"math"

	"fyne.io/fyne/v2/theme"
	"golang.org/x/image/font"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"

	"capsid/assets/fonts"
)

// Styles of a face; the bits index fontSet.styled.
const (
	faceBold   = 1
	faceItalic = 2
)

// fontSet is the parsed fonts, shared by all sizes.
type fontSet struct {
	styled   [4]*sfnt.Font
	fallback []*sfnt.Font
	system   *systemFonts
}

// loadFonts parses what is embedded; a font that cannot be read is a broken build.
func loadFonts() *fontSet {
	fs := &fontSet{system: &systemFonts{}}
	for i, b := range [][]byte{fonts.Mono, fonts.MonoBold, fonts.MonoItalic, fonts.MonoBoldItalic} {
		f, err := sfnt.Parse(b)
		if err != nil {
			panic("terminal: embedded font: " + err.Error())
		}
		fs.styled[i] = f
	}
	for _, res := range []interface{ Content() []byte }{theme.DefaultSymbolFont(), theme.DefaultEmojiFont(), theme.DefaultTextFont()} {
		if res == nil {
			continue
		}
		if f, err := sfnt.Parse(res.Content()); err == nil {
			fs.fallback = append(fs.fallback, f)
		}
	}
	return fs
}

// face is the fonts at one size, with the metrics of its cells in pixels and the glyphs drawn so far.
type face struct {
	set          *fontSet
	px           float32 // as asked for
	ppem         fixed.Int26_6
	cellW, cellH int
	baseline     int
	underline    int // top of the underline
	thick        int // of lines
	buf          sfnt.Buffer
	glyphs       map[glyphKey]glyph
}

type glyphKey struct {
	text  string
	style uint8
	cells uint8
}

// glyph is coverage, to be drawn with its Rect relative to the cell's top left corner.
type glyph struct {
	mask *image.Alpha // nil is blank
	at   image.Point
}

// maxGlyphs bounds the cache of one face; when it is full it is begun anew.
const maxGlyphs = 4096

// newFace makes a face of about the given number of pixels to the em. The cell is a whole number of pixels wide, and the em is
// adjusted so that a glyph's advance is just that.
func newFace(set *fontSet, px float64) *face {
	f := &face{set: set, px: float32(px), glyphs: map[glyphKey]glyph{}}
	regular := set.styled[0]
	const em = 2048 << 6
	var advance, ascent, descent float64
	if gi, err := regular.GlyphIndex(&f.buf, '0'); err == nil {
		if a, err := regular.GlyphAdvance(&f.buf, gi, em, font.HintingNone); err == nil {
			advance = float64(a) / em
		}
	}
	if m, err := regular.Metrics(&f.buf, em, font.HintingNone); err == nil {
		ascent, descent = float64(m.Ascent)/em, float64(m.Descent)/em
	}
	f.cellW = max(2, int(math.Round(px*advance)))
	ppem := float64(f.cellW) / advance
	f.ppem = fixed.Int26_6(math.Round(ppem * 64))
	f.cellH = int(math.Ceil((ascent + descent) * ppem))
	f.baseline = int(math.Round(ascent * ppem))
	f.thick = max(1, int(math.Round(ppem/14)))
	f.underline = min(f.baseline+max(1, int(math.Round(ppem/12))), f.cellH-f.thick)
	return f
}

// glyph gives the coverage of a grapheme cluster that covers a number of cells.
func (f *face) glyph(k glyphKey) glyph {
	if g, ok := f.glyphs[k]; ok {
		return g
	}
	if len(f.glyphs) >= maxGlyphs {
		clear(f.glyphs)
	}
	g := f.draw(k)
	f.glyphs[k] = g
	return g
}

func (f *face) draw(k glyphKey) glyph {
	first := rune(0)
	for _, r := range k.text {
		first = r
		break
	}
	w := f.cellW * int(k.cells)
	if m := drawBox(first, w, f.cellH, f.thick); m != nil {
		return glyph{mask: m}
	}
	// The mask is a cell wider on each side: italics and marks hang over.
	pad := f.cellW
	ras := vector.NewRasterizer(w+2*pad, f.cellH)
	drawn := false
	for _, r := range k.text {
		if r == 0x200d || r >= 0xfe00 && r <= 0xfe0f {
			continue
		}
		if drawn && !isMark(r) { // one glyph stands for a cluster of several
			continue
		}
		if f.outline(ras, r, k, pad, w) {
			drawn = true
		}
	}
	if !drawn {
		if first <= ' ' {
			return glyph{}
		}
		return glyph{mask: drawMissing(w, f.cellH, f.thick)}
	}
	m := image.NewAlpha(image.Rect(0, 0, w+2*pad, f.cellH))
	ras.Draw(m, m.Bounds(), image.Opaque, image.Point{})
	return trim(m, pad)
}

// outline adds the outline of one character, and says whether a font has it.
func (f *face) outline(ras *vector.Rasterizer, r rune, k glyphKey, pad, w int) bool {
	fnt, gi, own := f.find(r, k.style)
	if fnt == nil {
		return false
	}
	ppem := f.ppem
	x := float32(pad)
	shear := float32(0)
	if !own {
		// A font of other proportions is scaled to fit into the cells and put into their middle.
		adv, err := fnt.GlyphAdvance(&f.buf, gi, ppem, font.HintingNone)
		if err != nil {
			return false
		}
		if limit := fixed.I(w); adv > limit && adv > 0 {
			ppem = fixed.Int26_6(int64(ppem) * int64(limit) / int64(adv))
			adv = limit
		}
		x += (float32(w) - float32(adv)/64) / 2
		if k.style&faceItalic != 0 {
			shear = 0.2
		}
	}
	segs, err := fnt.LoadGlyph(&f.buf, gi, ppem, nil)
	if err != nil {
		return false
	}
	y := float32(f.baseline)
	if !own && ppem < f.ppem { // smaller than its neighbours: put a little higher
		y -= float32(f.ppem-ppem) / 64 * 0.3
	}
	pt := func(p fixed.Point26_6) (float32, float32) {
		py := float32(p.Y) / 64
		return x + float32(p.X)/64 - shear*py, y + py
	}
	for _, s := range segs {
		ax, ay := pt(s.Args[0])
		switch s.Op {
		case sfnt.SegmentOpMoveTo:
			ras.ClosePath()
			ras.MoveTo(ax, ay)
		case sfnt.SegmentOpLineTo:
			ras.LineTo(ax, ay)
		case sfnt.SegmentOpQuadTo:
			bx, by := pt(s.Args[1])
			ras.QuadTo(ax, ay, bx, by)
		case sfnt.SegmentOpCubeTo:
			bx, by := pt(s.Args[1])
			cx, cy := pt(s.Args[2])
			ras.CubeTo(ax, ay, bx, by, cx, cy)
		}
	}
	ras.ClosePath()
	return true
}

// find looks for a font that has r; own says that it is the monospace one.
func (f *face) find(r rune, style uint8) (fnt *sfnt.Font, gi sfnt.GlyphIndex, own bool) {
	for _, st := range []uint8{style, style &^ faceItalic, 0} {
		if gi, err := f.set.styled[st].GlyphIndex(&f.buf, r); err == nil && gi != 0 {
			return f.set.styled[st], gi, true
		}
	}
	for _, fb := range f.set.fallback {
		if gi, err := fb.GlyphIndex(&f.buf, r); err == nil && gi != 0 {
			return fb, gi, false
		}
	}
	if fb, gi := f.set.system.find(&f.buf, r); fb != nil {
		return fb, gi, false
	}
	return nil, 0, false
}

func isMark(r rune) bool {
	return r >= 0x300 && r <= 0x36f || r >= 0x1ab0 && r <= 0x1aff || r >= 0x20d0 && r <= 0x20ff || r >= 0xfe20 && r <= 0xfe2f
}

// trim cuts a mask to what is covered.
func trim(m *image.Alpha, pad int) glyph {
	b := m.Bounds()
	box := image.Rectangle{}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		row := m.Pix[y*m.Stride : y*m.Stride+b.Dx()]
		for x, v := range row {
			if v != 0 {
				box = box.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	if box.Empty() {
		return glyph{}
	}
	out := image.NewAlpha(image.Rect(0, 0, box.Dx(), box.Dy()))
	for y := range box.Dy() {
		copy(out.Pix[y*out.Stride:], m.Pix[m.PixOffset(box.Min.X, box.Min.Y+y):m.PixOffset(box.Max.X, box.Min.Y+y)])
	}
	return glyph{mask: out, at: image.Pt(box.Min.X-pad, box.Min.Y)}
}
