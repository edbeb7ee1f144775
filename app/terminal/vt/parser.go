package vt

import "unicode/utf8"

const (
	maxParams = 32
	maxParam  = 65535
	maxString = 64 << 10 // bytes of one OSC, DCS or APC string; a longer one is dropped whole
)

// param is one number of a sequence; -1 when it was left out. sub says that a colon, not a semicolon, stood before it.
type param struct {
	v   int
	sub bool
}

// sequence is a parsed CSI or DCS introducer, or an escape sequence.
type sequence struct {
	prefix byte // one of < = > ?, or 0
	inter  byte // the last intermediate, 0x20–0x2f, or 0
	final  byte
	params []param
}

// arg is parameter i, or def where it is missing or zero.
func (q *sequence) arg(i, def int) int {
	if i < len(q.params) && q.params[i].v > 0 {
		return q.params[i].v
	}
	return def
}

// raw is parameter i, or def where it is missing.
func (q *sequence) raw(i, def int) int {
	if i < len(q.params) && q.params[i].v >= 0 {
		return q.params[i].v
	}
	return def
}

type state uint8

const (
	ground state = iota
	escape
	escapeIntermediate
	csiEntry
	csiParam
	csiIntermediate
	csiIgnore
	dcsEntry
	dcsParam
	dcsIntermediate
	dcsIgnore
	dcsString
	oscString
	ignoredString // SOS, PM, APC
)

// actions is what a parser drives. Slices are valid during the call.
type actions interface {
	print(r rune)
	printASCII(b []byte)
	execute(b byte)
	escape(q *sequence)
	csi(q *sequence)
	osc(data []byte, bell bool)
	dcs(q *sequence, data []byte)
}

// parser is Paul Williams' state machine of the VT500 series, with UTF-8 decoded before it, so that no continuation byte (0x9c in "✳",
// which agents put into titles) is taken for a C1 control. C1 controls exist as ESC sequences only, as in xterm's UTF-8 mode.
type parser struct {
	state   state
	seq     sequence
	buf     [maxParams]param
	str     []byte
	long    bool // str passed its bound
	partial [utf8.UTFMax]byte
	nPart   int
}

func (p *parser) write(a actions, b []byte) {
	for len(b) > 0 {
		if p.state != ground {
			b = p.advance(a, b)
			continue
		}
		if p.nPart > 0 {
			b = p.finishRune(a, b)
			continue
		}
		n := 0
		for n < len(b) && b[n] >= 0x20 && b[n] < 0x7f {
			n++
		}
		if n > 0 {
			a.printASCII(b[:n])
			b = b[n:]
			continue
		}
		switch c := b[0]; {
		case c == 0x1b:
			p.enter(escape)
			b = b[1:]
		case c < 0x20:
			a.execute(c)
			b = b[1:]
		case c == 0x7f:
			b = b[1:]
		case !utf8.FullRune(b):
			p.nPart = copy(p.partial[:], b)
			return
		default:
			r, n := utf8.DecodeRune(b)
			printRune(a, r)
			b = b[n:]
		}
	}
}

// finishRune goes on with a character that an earlier write ended in.
func (p *parser) finishRune(a actions, b []byte) []byte {
	var joined [2 * utf8.UTFMax]byte
	n := copy(joined[:], p.partial[:p.nPart])
	n += copy(joined[n:], b[:min(len(b), utf8.UTFMax-p.nPart)])
	if !utf8.FullRune(joined[:n]) {
		p.nPart = copy(p.partial[:], joined[:n])
		return b[len(b):]
	}
	r, size := utf8.DecodeRune(joined[:n])
	printRune(a, r)
	taken := size - p.nPart
	if taken < 0 { // the first bytes were no character: those after them are looked at anew
		rest := append([]byte(nil), joined[size:p.nPart]...)
		p.nPart = 0
		p.write(a, rest)
		return b
	}
	p.nPart = 0
	return b[taken:]
}

func printRune(a actions, r rune) {
	if r >= 0x80 && r < 0xa0 { // a C1 control as a character: nothing to show
		return
	}
	a.print(r)
}

func (p *parser) enter(s state) {
	p.state = s
	switch s {
	case escape, csiEntry, dcsEntry:
		p.seq = sequence{}
		p.seq.params = p.buf[:0]
	case oscString, ignoredString, dcsString:
		p.str = p.str[:0]
		p.long = false
	}
}

// advance takes at least one byte of b, or leaves the state that it is in.
func (p *parser) advance(a actions, b []byte) []byte {
	switch p.state {
	case oscString, dcsString, ignoredString, dcsIgnore:
		return p.collect(a, b)
	}
	c := b[0]
	switch {
	case c == 0x1b:
		p.enter(escape)
		return b[1:]
	case c == 0x18 || c == 0x1a:
		p.state = ground
		return b[1:]
	case c >= 0x80: // no part of any sequence: it is text, and the sequence was broken
		p.state = ground
		return b
	case c == 0x7f:
		return b[1:]
	case c < 0x20:
		if p.state < dcsEntry {
			a.execute(c)
		}
		return b[1:]
	}
	switch p.state {
	case escape, escapeIntermediate:
		p.escapeByte(a, c)
	default:
		p.introducerByte(a, c)
	}
	return b[1:]
}

func (p *parser) escapeByte(a actions, c byte) {
	if c < 0x30 {
		p.seq.inter = c
		p.state = escapeIntermediate
		return
	}
	if p.state == escape {
		switch c {
		case '[':
			p.enter(csiEntry)
			return
		case ']':
			p.enter(oscString)
			return
		case 'P':
			p.enter(dcsEntry)
			return
		case 'X', '^', '_':
			p.enter(ignoredString)
			return
		}
	}
	p.state = ground
	p.seq.final = c
	a.escape(&p.seq)
}

// introducerByte takes a printable byte of a CSI or DCS introducer.
func (p *parser) introducerByte(a actions, c byte) {
	dcs := p.state >= dcsEntry
	pick := func(csi, dcsState state) state {
		if dcs {
			return dcsState
		}
		return csi
	}
	entry := p.state == csiEntry || p.state == dcsEntry
	inter := p.state == csiIntermediate || p.state == dcsIntermediate
	switch {
	case c >= 0x40:
		p.seq.final = c
		switch {
		case dcs:
			p.enter(dcsString)
		case p.state == csiIgnore:
			p.state = ground
		default:
			p.state = ground
			a.csi(&p.seq)
		}
	case p.state == csiIgnore:
	case c < 0x30:
		p.seq.inter = c
		p.state = pick(csiIntermediate, dcsIntermediate)
	case inter, c >= 0x3c && !entry:
		p.state = pick(csiIgnore, dcsIgnore)
		p.str = p.str[:0]
	case c >= 0x3c:
		p.seq.prefix = c
		p.state = pick(csiParam, dcsParam)
	default:
		p.state = pick(csiParam, dcsParam)
		p.paramByte(c)
	}
}

func (p *parser) paramByte(c byte) {
	q := &p.seq
	if len(q.params) == 0 {
		q.params = append(q.params, param{v: -1})
	}
	if c >= '0' && c <= '9' {
		if last := &q.params[len(q.params)-1]; last.v != dropped {
			last.v = min(max(last.v, 0)*10+int(c-'0'), maxParam)
		}
		return
	}
	if len(q.params) == maxParams { // those beyond are dropped, with their digits
		q.params[maxParams-1] = param{v: dropped}
		return
	}
	q.params = append(q.params, param{v: -1, sub: c == ':'})
}

// dropped marks the last parameter of a sequence that had too many.
const dropped = -2

// collect takes bytes of a string until its end.
func (p *parser) collect(a actions, b []byte) []byte {
	n := 0
	for n < len(b) && (b[n] >= 0x20 || !p.ends(b[n])) {
		n++
	}
	if p.state == oscString || p.state == dcsString {
		if len(p.str)+n > maxString {
			p.long = true
			p.str = p.str[:0]
		}
		if !p.long {
			p.str = append(p.str, b[:n]...)
		}
	}
	if n == len(b) {
		return nil
	}
	c, s := b[n], p.state
	p.state = ground
	if c != 0x18 && c != 0x1a && !p.long {
		switch s {
		case oscString:
			a.osc(p.str, c == 0x07)
		case dcsString:
			a.dcs(&p.seq, p.str)
		}
	}
	if cap(p.str) > 4096 {
		p.str = nil
	}
	if c == 0x1b {
		p.enter(escape)
	}
	return b[n+1:]
}

// ends says whether a control byte ends the string: ESC (of ST), CAN, SUB, and BEL for OSC.
func (p *parser) ends(c byte) bool {
	return c == 0x1b || c == 0x18 || c == 0x1a || c == 0x07 && p.state == oscString
}
