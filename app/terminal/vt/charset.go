package vt

// charsets are the four designated sets and which of them is in use. Zero values mean ASCII.
type charsets struct {
	g      [4]byte // final byte of the designation: '0' DEC special graphics, 'A' UK, anything else ASCII
	gl     uint8
	single uint8 // 2 or 3 for one character after SS2 or SS3
}

// plain says that printable ASCII stands for itself.
func (c *charsets) plain() bool {
	g := c.g[c.gl]
	return c.single == 0 && g != '0' && g != 'A'
}

func (c *charsets) translate(r rune) rune {
	g := c.g[c.gl]
	if c.single != 0 {
		g = c.g[c.single]
		c.single = 0
	}
	switch {
	case g == '0' && r >= 0x5f && r <= 0x7e:
		return decGraphics[r-0x5f]
	case g == 'A' && r == '#':
		return '£'
	}
	return r
}

// decGraphics is the DEC Special Graphics set from 0x5f on (VT220 Programmer Reference, table 2-4).
var decGraphics = [...]rune{
	' ', '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽',
	'├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
}
