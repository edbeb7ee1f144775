package console

// plain takes control characters and escape sequences (ECMA-48) out of a stream, and makes a question mark of every byte that is not ASCII: the kernel
// writes no other, and an invisible or reordering character has no place in a log.
type plain struct{ state byte }

const (
	inText    = iota
	inEscape  // after ESC
	inControl // CSI: until a byte from @ to ~
	inString  // OSC, DCS and the like: until BEL or ESC \
)

func (p *plain) next(b byte) (byte, bool) {
	switch p.state {
	case inEscape:
		switch b {
		case '[':
			p.state = inControl
		case ']', 'P', 'X', '^', '_':
			p.state = inString
		case '\x1b':
		default:
			if b < 0x20 || b > 0x2f { // intermediate bytes go on
				p.state = inText
			}
		}
		return 0, false
	case inControl:
		if b == '\n' || b >= '@' && b <= '~' {
			p.state = inText
		}
		return '\n', b == '\n'
	case inString:
		switch b {
		case '\x1b':
			p.state = inEscape
		case '\a', '\n':
			p.state = inText
		}
		return '\n', b == '\n'
	}
	switch {
	case b == '\x1b':
		p.state = inEscape
	case b == '\n', b == '\t', b >= ' ' && b < 0x7f:
		return b, true
	case b >= 0x80:
		return '?', true
	}
	return 0, false
}
