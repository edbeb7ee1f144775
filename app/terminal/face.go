package terminal

import (
	"bytes"
	"image"
	"math"
	"sync"
	"unicode"

	"fyne.io/fyne/v2/theme"
	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/font/opentype"
	"golang.org/x/image/vector"

	"capsid/assets/fonts"
)

// Styles of a face; the bits index fontSet.styled.
const (
	faceBold   = 1
	faceItalic = 2
)

// fontSet is the parsed fonts of all sizes and terminals. They are never changed.
type fontSet struct {
	styled   [4]*font.Font
	fallback []*font.Font
	system   systemFonts
}

// sharedFonts parses the embedded fonts when the first terminal needs them; one that cannot be read is a broken build.
var sharedFonts = sync.OnceValue(func() *fontSet {
	fs := &fontSet{}
	for i, b := range [][]byte{fonts.Mono, fonts.MonoBold, fonts.MonoItalic, fonts.MonoBoldItalic} {
		f, err := font.ParseTTF(bytes.NewReader(b))
		if err != nil {
			panic("terminal: embedded font: " + err.Error())
		}
		fs.styled[i] = f.Font
	}
	for _, res := range []interface{ Content() []byte }{theme.DefaultSymbolFont(), theme.DefaultEmojiFont(), theme.DefaultTextFont()} {
		if res == nil {
			continue
		}
		if f, err := font.ParseTTF(bytes.NewReader(res.Content())); err == nil {
			fs.fallback = append(fs.fallback, f.Font)
		}
	}
	return fs
})

// face is the fonts at one size, with the metrics of its cells in pixels and the glyphs drawn so far.
type face struct {
	set          *fontSet
	px           float32 // as asked for
	ppem         float32
	cellW, cellH int
	baseline     int
	underline    int // top of the underline
	thick        int // of lines
	glyphs       map[glyphKey]glyph
	faces        map[*font.Font]*font.Face
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
func newFace(set *fontSet, px float32) *face {
	f := &face{set: set, px: px, glyphs: map[glyphKey]glyph{}, faces: map[*font.Font]*font.Face{}}
	regular := f.face(set.styled[0])
	em := float64(regular.Upem())
	zero, _ := regular.NominalGlyph('0')
	advance := float64(regular.HorizontalAdvance(zero)) / em
	extents, _ := regular.FontHExtents()
	ascent, descent := float64(extents.Ascender)/em, -float64(extents.Descender)/em
	f.cellW = max(2, int(math.Round(float64(px)*advance)))
	ppem := float64(f.cellW) / advance
	f.ppem = float32(ppem)
	f.cellH = int(math.Ceil((ascent + descent) * ppem))
	f.baseline = int(math.Round(ascent * ppem))
	f.thick = max(1, int(math.Round(ppem/14)))
	f.underline = min(f.baseline+max(1, int(math.Round(ppem/12))), f.cellH-f.thick)
	return f
}

// face is what glyphs of a font are read through; it has caches of its own, so each face has one.
func (f *face) face(fnt *font.Font) *font.Face {
	if f.faces[fnt] == nil {
		f.faces[fnt] = font.NewFace(fnt)
	}
	return f.faces[fnt]
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
	at := pad
	for _, r := range k.text {
		if r == 0x200d || r >= 0xfe00 && r <= 0xfe0f {
			continue
		}
		if flag := r - 0x1f1e6; flag >= 0 && flag < 26 && k.cells == 2 { // a flag: its country's letters, a cell each
			drawn = f.outline(ras, 'A'+flag, k, at, f.cellW) || drawn
			at += f.cellW
			continue
		}
		if drawn && !isMark(r) { // one glyph stands for a cluster of several
			continue
		}
		if f.outline(ras, substitute(r), k, pad, w) {
			drawn = true
		}
	}
	if !drawn {
		if unicode.IsSpace(first) || !unicode.IsPrint(first) {
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
	ff := f.face(fnt)
	ppem, em := f.ppem, float32(fnt.Upem())
	x, y := float32(pad), float32(f.baseline)
	shear := float32(0)
	if !own {
		// A font of other proportions is scaled to fit into the cells and put into their middle.
		adv := ff.HorizontalAdvance(gi) * ppem / em
		if adv > float32(w) {
			small := ppem * float32(w) / adv
			y -= (ppem - small) * 0.3 // lower than its neighbours: put a little higher
			ppem, adv = small, float32(w)
		}
		x += (float32(w) - adv) / 2
		if k.style&faceItalic != 0 {
			shear = 0.2
		}
	}
	var segs []font.Segment
	switch g := ff.GlyphData(gi).(type) {
	case font.GlyphOutline:
		segs = g.Segments
	case font.GlyphSVG:
		segs = g.Outline.Segments
	}
	if len(segs) == 0 {
		return own // one without an outline is a space; elsewhere it may be a picture that is not for us
	}
	scale := ppem / em
	pt := func(p font.SegmentPoint) (float32, float32) {
		return x + p.X*scale + shear*p.Y*scale, y - p.Y*scale
	}
	for _, s := range segs {
		ax, ay := pt(s.Args[0])
		switch s.Op {
		case opentype.SegmentOpMoveTo:
			ras.ClosePath()
			ras.MoveTo(ax, ay)
		case opentype.SegmentOpLineTo:
			ras.LineTo(ax, ay)
		case opentype.SegmentOpQuadTo:
			bx, by := pt(s.Args[1])
			ras.QuadTo(ax, ay, bx, by)
		case opentype.SegmentOpCubeTo:
			bx, by := pt(s.Args[1])
			cx, cy := pt(s.Args[2])
			ras.CubeTo(ax, ay, bx, by, cx, cy)
		}
	}
	ras.ClosePath()
	return true
}

// find looks for a font that has r; own says that it is the monospace one.
func (f *face) find(r rune, style uint8) (fnt *font.Font, gi font.GID, own bool) {
	for _, st := range []uint8{style, style &^ faceItalic, 0} {
		if gi, ok := f.set.styled[st].NominalGlyph(r); ok {
			return f.set.styled[st], gi, true
		}
	}
	for _, fb := range f.set.fallback {
		if gi, ok := fb.NominalGlyph(r); ok {
			return fb, gi, false
		}
	}
	if fb, gi := f.set.system.find(r); fb != nil {
		return fb, gi, false
	}
	return nil, 0, false
}

// substitute gives the characters of media controls, which agents use as bullets, as shapes that the monospace font has.
func substitute(r rune) rune {
	switch r {
	case '⏺':
		return '●'
	case '⏹':
		return '■'
	case '⏵':
		return '▶'
	case '⏴':
		return '◀'
	case '⏶':
		return '▲'
	case '⏷':
		return '▼'
	}
	return r
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
