package terminal

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"

	"capsid/app/terminal/vt"
)

// colours is what the theme gives, taken on the UI goroutine.
type colours struct {
	palette   vt.Palette
	selection vt.RGB
	textSize  float32
}

func defaultColours(p *vt.Palette) colours {
	c := colours{palette: vt.DefaultPalette(), selection: vt.RGB{R: 0x34, G: 0x4f, B: 0x78}, textSize: 14}
	if p != nil {
		c.palette = *p
	}
	return c
}

// themeColours makes a palette for the theme in force: its own background, foreground and primary colour, and sixteen colours that can be read on them.
func themeColours(fixed *vt.Palette) colours {
	c := defaultColours(fixed)
	if fyne.CurrentApp() == nil {
		return c
	}
	c.textSize = theme.TextSize()
	background := rgb(theme.Color(theme.ColorNameBackground))
	c.selection = mix(background, rgb(theme.Color(theme.ColorNamePrimary)), 110)
	if fixed != nil {
		return c
	}
	p := &c.palette
	p.Background = background
	if !p.Dark() {
		copy(p.Colors[:16], lightColors[:])
	}
	p.Foreground = rgb(theme.Color(theme.ColorNameForeground))
	p.Cursor = p.Foreground
	return c
}

// lightColors are the sixteen for a light background.
var lightColors = [16]vt.RGB{
	{R: 0x24, G: 0x29, B: 0x2f}, {R: 0xb4, G: 0x23, B: 0x18}, {R: 0x1a, G: 0x7f, B: 0x37}, {R: 0x8a, G: 0x60, B: 0x00},
	{R: 0x09, G: 0x69, B: 0xda}, {R: 0x82, G: 0x50, B: 0xdf}, {R: 0x0b, G: 0x76, B: 0x85}, {R: 0x6e, G: 0x77, B: 0x81},
	{R: 0x57, G: 0x60, B: 0x6a}, {R: 0xcf, G: 0x22, B: 0x2e}, {R: 0x2d, G: 0xa4, B: 0x4e}, {R: 0xb0, G: 0x7d, B: 0x09},
	{R: 0x21, G: 0x8b, B: 0xff}, {R: 0xa4, G: 0x75, B: 0xf9}, {R: 0x1b, G: 0x9a, B: 0xaa}, {R: 0x8c, G: 0x95, B: 0x9f},
}

func rgb(c color.Color) vt.RGB {
	n := color.NRGBAModel.Convert(c).(color.NRGBA)
	return vt.RGB{R: n.R, G: n.G, B: n.B}
}

func nrgba(c vt.RGB) color.NRGBA { return color.NRGBA{R: c.R, G: c.G, B: c.B, A: 255} }
