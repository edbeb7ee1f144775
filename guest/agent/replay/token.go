package replay

import "unicode/utf8"

// maxControl bounds a control sequence that is no string. Nothing real is longer; a longer one is a fragment.
const maxControl = 4096

const (
	esc = 0x1b
	can = 0x18
	sub = 0x1a
	bel = 0x07
)

// next is the length of the first token of b: a whole sequence, a fragment of one that something else cut short, one control
// character, a stretch of printable ASCII, or one other character. It is 0 when b ends before the token does.
//
// x/ansi's decoder is not used: it ends a string at byte 0x9c, which is in the middle of many UTF-8 characters that titles begin with.
func next(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch c := b[0]; {
	case c == esc:
		return nextEscape(b)
	case c < 0x20 || c == 0x7f:
		return 1
	case c < 0x7f:
		n := 1
		for n < len(b) && n < 256 && b[n] >= 0x20 && b[n] < 0x7f {
			n++
		}
		return n
	}
	if !utf8.FullRune(b) {
		return 0
	}
	_, n := utf8.DecodeRune(b)
	return n
}

func nextEscape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	i := 1
	switch b[1] {
	case '[':
		i = 2
		for i < len(b) && i < maxControl && b[i] >= 0x20 && b[i] < 0x40 {
			i++
		}
	case ']', 'P', '_', '^', 'X':
		return nextString(b)
	default:
		for i < len(b) && i < maxControl && b[i] >= 0x20 && b[i] < 0x30 {
			i++
		}
	}
	if i == len(b) {
		return 0
	}
	if b[i] >= 0x30 && b[i] < 0x7f {
		i++ // the final; split tells whether it is a right one
	}
	return i
}

func nextString(b []byte) int {
	for i := 2; i < len(b); i++ {
		switch b[i] {
		case bel:
			if b[1] == ']' {
				return i + 1
			}
		case can, sub:
			return i + 1
		case esc:
			if i+1 == len(b) {
				return 0
			}
			if b[i+1] == '\\' {
				return i + 2
			}
			return i
		}
	}
	return 0
}
