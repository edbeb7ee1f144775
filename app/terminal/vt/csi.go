package vt

func (s *Screen) execute(b byte) {
	switch b {
	case 0x07:
		s.out.push(s.opt.Bell, 0)
	case 0x08:
		s.backspace()
	case 0x09:
		s.c.pending = false
		s.tab(1)
	case 0x0a, 0x0b, 0x0c:
		s.c.pending = false
		s.index()
		if s.m.has(newline) {
			s.c.x = 0
		}
	case 0x0d:
		s.c.x, s.c.pending = 0, false
	case 0x0e:
		s.c.set.gl = 1
	case 0x0f:
		s.c.set.gl = 0
	default:
		return
	}
	s.lastOK = false
}

func (s *Screen) escape(q *sequence) {
	s.lastOK = false
	switch q.inter {
	case '(', ')', '*', '+':
		s.c.set.g[q.inter-'('] = q.final
		return
	case '-', '.', '/': // 96-character sets: Latin-1 comes as UTF-8 here
		return
	case '#':
		if q.final == '8' {
			s.alignment()
		}
		return
	case 0:
	default:
		return
	}
	switch q.final {
	case '7':
		s.saveCursor()
	case '8':
		s.restoreCursor()
	case '=':
		s.m.set(keypad, true)
	case '>':
		s.m.set(keypad, false)
	case 'D':
		s.c.pending = false
		s.index()
	case 'E':
		s.c.x, s.c.pending = 0, false
		s.index()
	case 'M':
		s.c.pending = false
		s.reverseIndex()
	case 'H':
		s.tabs[s.c.x] = true
	case 'N':
		s.c.set.single = 2
	case 'O':
		s.c.set.single = 3
	case 'n':
		s.c.set.gl = 2
	case 'o':
		s.c.set.gl = 3
	case 'Z':
		s.reportAttributes(0)
	case 'c':
		s.fullReset()
	}
}

func (s *Screen) csi(q *sequence) {
	if q.final != 'm' && q.final != 'b' {
		s.lastOK = false
	}
	switch {
	case q.inter != 0:
		s.csiIntermediate(q)
	case q.prefix == 0:
		s.csiPlain(q)
	default:
		s.csiPrivate(q)
	}
}

func (s *Screen) csiPlain(q *sequence) {
	n := min(q.arg(0, 1), MaxCols)
	switch q.final {
	case '@':
		s.insertChars(n)
	case 'A':
		s.moveUp(n)
	case 'B', 'e':
		s.moveDown(n)
	case 'C', 'a':
		s.moveTo(s.c.x+n, s.c.y)
	case 'D':
		s.moveTo(s.c.x-n, s.c.y)
	case 'E':
		s.moveDown(n)
		s.c.x = 0
	case 'F':
		s.moveUp(n)
		s.c.x = 0
	case 'G', '`':
		s.moveTo(q.arg(0, 1)-1, s.c.y)
	case 'H', 'f':
		s.moveOrigin(q.arg(1, 1)-1, q.arg(0, 1)-1)
	case 'I':
		s.c.pending = false
		s.tab(n)
	case 'J':
		s.eraseDisplay(q.raw(0, 0))
	case 'K':
		s.eraseLine(q.raw(0, 0))
	case 'L':
		s.insertLines(n)
	case 'M':
		s.deleteLines(n)
	case 'P':
		s.deleteChars(n)
	case 'S':
		s.scrollUp(s.top, s.bottom, n, true)
	case 'T':
		if len(q.params) <= 1 { // five of them are xterm's highlight tracking
			s.scrollDown(s.top, s.bottom, n)
		}
	case 'X':
		s.c.pending = false
		s.erase(s.c.y, s.c.x, s.c.x+n)
	case 'Z':
		s.backTab(n)
	case 'b':
		s.repeat(q.arg(0, 1))
	case 'c':
		if q.raw(0, 0) == 0 {
			s.reportAttributes(0)
		}
	case 'd':
		s.moveOrigin(s.c.x, q.arg(0, 1)-1)
	case 'g':
		switch q.raw(0, 0) {
		case 0:
			s.tabs[s.c.x] = false
		case 3:
			clear(s.tabs)
		}
	case 'h', 'l':
		for i := range q.params {
			s.setANSIMode(q.raw(i, 0), q.final == 'h')
		}
	case 'm':
		s.sgr(q.params)
	case 'n':
		s.reportStatus(q.raw(0, 0), false)
	case 'r':
		s.setMargins(q.arg(0, 1)-1, q.arg(1, s.rows)-1)
	case 's':
		s.saveCursor()
	case 't':
		s.windowOp(q)
	case 'u':
		s.restoreCursor()
	}
}

func (s *Screen) setMargins(top, bottom int) {
	bottom = min(bottom, s.rows-1)
	if top >= bottom {
		return
	}
	s.top, s.bottom = top, bottom
	s.moveOrigin(0, 0)
}

func (s *Screen) csiPrivate(q *sequence) {
	switch {
	case q.prefix == '?':
		s.csiQuestion(q)
	case q.final == 'c' && q.raw(0, 0) == 0:
		s.reportAttributes(q.prefix)
	case q.final == 'u':
		s.kittyKeyboard(q)
	case q.prefix == '>' && q.final == 'm':
		s.setModifyOtherKeys(q)
	case q.prefix == '>' && q.final == 'q' && q.raw(0, 0) == 0:
		s.reportVersion()
	}
}

func (s *Screen) csiQuestion(q *sequence) {
	switch q.final {
	case 'h', 'l':
		for i := range q.params {
			s.setMode(q.raw(i, 0), q.final == 'h')
		}
	case 's':
		for i := range q.params {
			s.saveMode(q.raw(i, 0))
		}
	case 'r':
		for i := range q.params {
			s.restoreMode(q.raw(i, 0))
		}
	case 'J': // selective erase; nothing is protected here
		if n := q.raw(0, 0); n < 3 {
			s.eraseDisplay(n)
		}
	case 'K':
		s.eraseLine(q.raw(0, 0))
	case 'n':
		s.reportStatus(q.raw(0, 0), true)
	case 'u':
		s.reportKitty()
	case 'm':
		if q.raw(0, 0) == 4 {
			s.reportModifyOtherKeys()
		}
	case 'W':
		if q.raw(0, 0) == 5 {
			s.resetTabs()
		}
	}
}

func (s *Screen) csiIntermediate(q *sequence) {
	switch {
	case q.inter == '!' && q.final == 'p':
		s.softReset()
	case q.inter == '$' && q.final == 'p':
		s.reportMode(q.raw(0, 0), q.prefix == '?')
	case q.inter == ' ' && q.final == 'q' && q.prefix == 0:
		s.setCursorStyle(q.raw(0, 0))
	}
}

// CursorStyle is the shape that the program asks for.
type CursorStyle uint8

const (
	CursorBlock CursorStyle = iota
	CursorUnderline
	CursorBar
)

// setCursorStyle is DECSCUSR.
func (s *Screen) setCursorStyle(n int) {
	switch {
	case n == 0:
		s.cursorS, s.cursorB = CursorBlock, true
	case n <= 6:
		s.cursorS, s.cursorB = CursorStyle((n-1)/2), n%2 == 1
	}
}
