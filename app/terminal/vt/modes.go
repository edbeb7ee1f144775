package vt

import "time"

// flag is a mode that is on or off.
type flag uint32

const (
	cursorKeys flag = 1 << iota
	keypad
	autowrap
	reverseWrap
	insertMode
	newline
	reverseVideo
	cursorVisible
	bracketedPaste
	altScroll
	colorScheme
	backspaceBS // DECBKM: the Backspace key sends BS
	resizeReports
)

// MouseMode says which pointer events the program wants; the numbers are the modes'.
type MouseMode uint16

const (
	MouseOff    MouseMode = 0
	MouseX10    MouseMode = 9    // presses only
	MouseNormal MouseMode = 1000 // presses and releases
	MouseDrag   MouseMode = 1002 // and movement while a button is down
	MouseAny    MouseMode = 1003 // and all movement
)

// MouseEncoding says how they are told; the numbers are the modes'.
type MouseEncoding uint16

const (
	EncodingX10   MouseEncoding = 0
	EncodingUTF8  MouseEncoding = 1005
	EncodingSGR   MouseEncoding = 1006
	EncodingURXVT MouseEncoding = 1015
)

type modeSet struct {
	flags         flag
	mouse         MouseMode
	mouseEncoding MouseEncoding
	focus         bool
	otherKeys     uint8 // modifyOtherKeys, 0–2
	stored        map[int]bool
}

func defaultModes() modeSet {
	return modeSet{flags: autowrap | cursorVisible | altScroll}
}

func (m *modeSet) has(f flag) bool { return m.flags&f != 0 }

func (m *modeSet) set(f flag, on bool) {
	if on {
		m.flags |= f
	} else {
		m.flags &^= f
	}
}

// Modes is what the encoders of keys, pointer events and pastes need to know.
type Modes struct {
	CursorKeys      bool // DECCKM
	Keypad          bool // DECKPAM
	NewLine         bool
	BackspaceBS     bool
	BracketedPaste  bool
	Focus           bool // focus events are wanted
	AltScroll       bool // the wheel moves the cursor on the alternate screen
	AltScreen       bool
	Mouse           MouseMode
	MouseEncoding   MouseEncoding
	ModifyOtherKeys uint8
	Kitty           uint8 // flags of the kitty keyboard protocol
}

// Modes are those in force.
func (s *Screen) Modes() Modes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.modes()
}

func (s *Screen) modes() Modes {
	return Modes{
		CursorKeys:      s.m.has(cursorKeys),
		Keypad:          s.m.has(keypad),
		NewLine:         s.m.has(newline),
		BackspaceBS:     s.m.has(backspaceBS),
		BracketedPaste:  s.m.has(bracketedPaste),
		Focus:           s.m.focus,
		AltScroll:       s.m.has(altScroll),
		AltScreen:       s.cur == &s.alt,
		Mouse:           s.m.mouse,
		MouseEncoding:   s.m.mouseEncoding,
		ModifyOtherKeys: s.m.otherKeys,
		Kitty:           s.cur.kitty.flags(),
	}
}

// simpleModes are DEC private modes that are a flag and nothing more.
func simpleMode(n int) (flag, bool) {
	switch n {
	case 1:
		return cursorKeys, true
	case 5:
		return reverseVideo, true
	case 7:
		return autowrap, true
	case 25:
		return cursorVisible, true
	case 45:
		return reverseWrap, true
	case 66:
		return keypad, true
	case 67:
		return backspaceBS, true
	case 1007:
		return altScroll, true
	case 2004:
		return bracketedPaste, true
	case 2031:
		return colorScheme, true
	case 2048:
		return resizeReports, true
	}
	return 0, false
}

func (s *Screen) setANSIMode(n int, on bool) {
	switch n {
	case 4:
		s.m.set(insertMode, on)
	case 20:
		s.m.set(newline, on)
	}
}

func (s *Screen) setMode(n int, on bool) {
	if f, ok := simpleMode(n); ok {
		s.m.set(f, on)
		switch {
		case f == autowrap && !on:
			s.c.pending = false
		case f == resizeReports && on:
			s.reportSize()
		}
		return
	}
	switch n {
	case 6:
		s.c.origin = on
		s.moveOrigin(0, 0)
	case 12:
		s.cursorB = on
	case 9, 1000, 1002, 1003:
		s.m.mouse = MouseOff
		if on {
			s.m.mouse = MouseMode(n)
		}
	case 1005, 1006, 1015:
		if on {
			s.m.mouseEncoding = MouseEncoding(n)
		} else if s.m.mouseEncoding == MouseEncoding(n) {
			s.m.mouseEncoding = EncodingX10
		}
	case 1004:
		s.m.focus = on
	case 47, 1047, 1049:
		s.alternate(n, on)
	case 1048:
		if on {
			s.saveCursor()
		} else {
			s.restoreCursor()
		}
	case 2026:
		if on {
			s.beginSync()
		} else {
			s.endSync()
		}
	}
}

// alternate switches between the main and the alternate screen as modes 47, 1047 and 1049 do.
func (s *Screen) alternate(n int, on bool) {
	s.c.pending = false
	if !on {
		if s.cur == &s.alt {
			if n == 1047 {
				s.eraseRows(0, s.rows)
			}
			s.leaveAlt()
		}
		if n == 1049 {
			s.restoreCursor()
		}
		return
	}
	if s.cur == &s.alt {
		return
	}
	if n == 1049 {
		s.saveCursor()
	}
	s.cur = &s.alt
	s.epoch++
	if n == 1049 {
		for _, r := range s.alt.rows {
			r.clear(s.c.style, s.nextID())
		}
	}
}

func (s *Screen) leaveAlt() {
	if s.cur != &s.alt {
		return
	}
	s.alt.kitty = kittyStack{}
	s.cur = &s.main
	s.epoch++
}

// beginSync holds what is shown at its present state until endSync, or for syncTimeout.
func (s *Screen) beginSync() {
	now := time.Now()
	if now.Before(s.syncUntil) { // begun again: the time runs on, or a program could hold the picture for ever
		return
	}
	s.snapshot(&s.shown, -1)
	s.syncUntil = now.Add(syncTimeout)
}

func (s *Screen) endSync() { s.syncUntil = time.Time{} }

// modeState is what DECRQM answers: 0 unknown, 1 set, 2 reset, 3 always set, 4 always reset.
func (s *Screen) modeState(n int, private bool) int {
	is := func(on bool) int {
		if on {
			return 1
		}
		return 2
	}
	if !private {
		switch n {
		case 4:
			return is(s.m.has(insertMode))
		case 20:
			return is(s.m.has(newline))
		}
		return 0
	}
	if f, ok := simpleMode(n); ok {
		return is(s.m.has(f))
	}
	switch n {
	case 6:
		return is(s.c.origin)
	case 12:
		return is(s.cursorB)
	case 9, 1000, 1002, 1003:
		return is(s.m.mouse == MouseMode(n))
	case 1005, 1006, 1015:
		return is(s.m.mouseEncoding == MouseEncoding(n))
	case 1004:
		return is(s.m.focus)
	case 47, 1047, 1049:
		return is(s.cur == &s.alt)
	case 1048:
		return is(s.cur.saved.ok)
	case 2026:
		return is(time.Now().Before(s.syncUntil))
	case 2027: // grapheme clusters: that is how widths are taken here
		return 3
	}
	return 0
}

// saveMode and restoreMode are XTSAVE and XTRESTORE. Only modes that exist are kept, so the map is bounded.
func (s *Screen) saveMode(n int) {
	st := s.modeState(n, true)
	if st != 1 && st != 2 {
		return
	}
	if s.m.stored == nil {
		s.m.stored = map[int]bool{}
	}
	s.m.stored[n] = st == 1
}

func (s *Screen) restoreMode(n int) {
	if on, ok := s.m.stored[n]; ok && n != 2026 {
		s.setMode(n, on)
	}
}
