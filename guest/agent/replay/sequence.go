package replay

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// sequence is one whole control sequence, taken apart.
type sequence struct {
	kind   byte   // '[' CSI, ']' OSC, 'P' DCS, '_' APC, '^' PM, 'X' SOS, 1 another escape, 0 text or a control character
	prefix byte   // CSI, DCS: one of <=>? or 0
	params string // CSI, DCS: the parameters
	inter  string // intermediates
	final  byte
	data   []byte // of OSC, APC, PM, SOS; of DCS after its final
}

// isString tells whether b begins a string sequence, one that has no bound of its own.
func isString(b []byte) bool {
	return len(b) > 1 && b[0] == esc && bytes.IndexByte([]byte("]P_^X"), b[1]) >= 0
}

// split takes one sequence apart. It is false for a fragment: one that began and was cut short by something else.
func split(b []byte) (s sequence, whole bool) {
	if len(b) == 0 {
		return s, false
	}
	if b[0] != esc {
		return s, true
	}
	if len(b) < 2 {
		return s, false
	}
	switch b[1] {
	case '[':
		s.kind = '['
		return s, s.splitParams(b[2:]) && len(s.data) == 0
	case 'P':
		s.kind = 'P'
		body, ok := unterminated(b[2:])
		return s, ok && s.splitParams(body)
	case ']', '_', '^', 'X':
		s.kind = b[1]
		var ok bool
		s.data, ok = unterminated(b[2:])
		return s, ok
	}
	s.kind, s.inter, s.final = 1, string(b[1:len(b)-1]), b[len(b)-1]
	return s, s.final >= '0' && s.final <= '~'
}

// unterminated is a string without its terminator.
func unterminated(b []byte) ([]byte, bool) {
	switch {
	case bytes.HasSuffix(b, []byte{esc, '\\'}):
		return b[:len(b)-2], true
	case len(b) > 0 && b[len(b)-1] == bel:
		return b[:len(b)-1], true
	}
	return nil, false
}

func (s *sequence) splitParams(b []byte) bool {
	if len(b) > 0 && b[0] >= '<' && b[0] <= '?' {
		s.prefix, b = b[0], b[1:]
	}
	n := 0
	for n < len(b) && (b[n] >= '0' && b[n] <= ';') {
		n++
	}
	s.params, b = string(b[:n]), b[n:]
	n = 0
	for n < len(b) && b[n] >= ' ' && b[n] <= '/' {
		n++
	}
	s.inter, b = string(b[:n]), b[n:]
	if len(b) == 0 || b[0] < '@' || b[0] > '~' {
		return false
	}
	s.final, s.data = b[0], b[1:]
	return true
}

// number is the i-th parameter, or or when it is not there.
func (s *sequence) number(i, or int) int {
	p := s.params
	for ; i > 0; i-- {
		j := bytes.IndexByte([]byte(p), ';')
		if j < 0 {
			return or
		}
		p = p[j+1:]
	}
	if j := bytes.IndexAny([]byte(p), ";:"); j >= 0 {
		p = p[:j]
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		return or
	}
	return n
}

// hasC1 tells whether text has a control character of the upper range, which some terminals obey, in UTF-8 or bare.
func hasC1(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r >= 0x80 && r < 0xa0 || r == utf8.RuneError && n == 1 {
			return true
		}
		b = b[n:]
	}
	return false
}
