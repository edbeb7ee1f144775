package vt

// Color is a colour as the program named it. The zero value is the default colour of its place (foreground, background or underline).
type Color uint32

const (
	colorIndexed Color = 1 << 24
	colorRGB     Color = 2 << 24
	colorKind    Color = 0xff << 24
)

// Indexed is entry i of the palette.
func Indexed(i uint8) Color { return colorIndexed | Color(i) }

// TrueColor is an exact colour.
func TrueColor(r, g, b uint8) Color {
	return colorRGB | Color(r)<<16 | Color(g)<<8 | Color(b)
}

// IsDefault says that the program named none.
func (c Color) IsDefault() bool { return c&colorKind == 0 }

// Index is the palette entry, if it is one.
func (c Color) Index() (uint8, bool) { return uint8(c), c&colorKind == colorIndexed }

// RGB is a colour as it is painted.
type RGB struct{ R, G, B uint8 }

// Palette is what names of colours mean.
type Palette struct {
	Colors                         [256]RGB
	Foreground, Background, Cursor RGB
}

// Resolve gives the colour to paint: c, or def where c is the default.
func (p *Palette) Resolve(c Color, def RGB) RGB {
	switch c & colorKind {
	case colorIndexed:
		return p.Colors[uint8(c)]
	case colorRGB:
		return RGB{uint8(c >> 16), uint8(c >> 8), uint8(c)}
	}
	return def
}

// Dark says whether the background is nearer to black than to white.
func (p *Palette) Dark() bool {
	b := p.Background
	return 299*int(b.R)+587*int(b.G)+114*int(b.B) < 128*1000
}

// DefaultPalette is readable light text on near-black, with xterm's colour cube and greys at 16–255.
func DefaultPalette() Palette {
	p := Palette{
		Foreground: RGB{0xd8, 0xdc, 0xe4},
		Background: RGB{0x16, 0x18, 0x1d},
		Cursor:     RGB{0xd8, 0xdc, 0xe4},
	}
	copy(p.Colors[:16], []RGB{
		{0x2b, 0x2f, 0x38}, {0xe0, 0x6c, 0x75}, {0x8c, 0xc2, 0x65}, {0xd8, 0xb0, 0x62},
		{0x5c, 0xa7, 0xec}, {0xc6, 0x78, 0xdd}, {0x4c, 0xb8, 0xc4}, {0xc4, 0xca, 0xd4},
		{0x6b, 0x73, 0x83}, {0xf4, 0x8b, 0x92}, {0xa9, 0xdc, 0x84}, {0xf0, 0xcd, 0x87},
		{0x84, 0xc1, 0xff}, {0xdd, 0x9a, 0xf2}, {0x74, 0xd6, 0xe0}, {0xf4, 0xf6, 0xfa},
	})
	FillCube(&p)
	return p
}

// FillCube sets entries 16–255 to xterm's: a 6×6×6 cube, then 24 greys.
func FillCube(p *Palette) {
	level := [6]uint8{0, 95, 135, 175, 215, 255}
	for i := range 216 {
		p.Colors[16+i] = RGB{level[i/36], level[i/6%6], level[i%6]}
	}
	for i := range 24 {
		v := uint8(8 + 10*i)
		p.Colors[232+i] = RGB{v, v, v}
	}
}
