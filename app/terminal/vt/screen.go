package vt

import (
	"sync"
	"time"
)

const (
	// MaxCols and MaxRows bound the grid; larger sizes are cut.
	MaxCols = 1000
	MaxRows = 500

	defaultScrollback = 10000
	syncTimeout       = time.Second // after which a frame held by mode 2026 is shown all the same
)

// Options are fixed when a Screen is made. Callbacks may be nil; they are called one at a time and in order on a goroutine of the screen's, and must not block for long.
type Options struct {
	Cols, Rows int      // 0 means 80×24
	Scrollback int      // lines; 0 means 10,000, below 0 none
	Palette    *Palette // nil means DefaultPalette

	Reply          func([]byte)             // bytes for the program
	Title          func(string)             // one line without control characters, at most maxTitle bytes
	Bell           func()                   // BEL
	Notify         func(title, body string) // OSC 9 and OSC 777, cleaned like titles
	ClipboardWrite func(text string)        // OSC 52; ask before obeying
	Change         func()                   // there is something new to Snapshot; calls are merged
}

// Screen is the model. Make it with New.
type Screen struct {
	mu   sync.Mutex
	opt  Options
	p    parser
	out  queue
	ids  uint64 // the last row id given out
	clip time.Time

	cols, rows  int
	main, alt   buffer
	cur         *buffer
	c           cursor
	top, bottom int // scroll region, inclusive
	tabs        []bool
	hist        history
	epoch       uint64

	m       modeSet
	links   links
	base    Palette
	pal     *Palette // never changed once it was in a frame
	title   string
	titles  []string
	cursorS CursorStyle
	cursorB bool // blinking

	last      [2]int // where the last character was printed: what may still join it
	lastOK    bool
	lastText  Cell // for REP
	syncUntil time.Time
	shown     Frame // what is shown while a synchronized update is under way
	cellW     int   // pixels, for reports
	cellH     int
}

// buffer is the main or the alternate screen.
type buffer struct {
	rows  []*row
	saved savedCursor
	kitty kittyStack
}

// cursor is where and how the next character goes.
type cursor struct {
	x, y    int
	pending bool // the last column was written: the next character wraps first
	style   Style
	link    uint32
	set     charsets
	origin  bool
}

type savedCursor struct {
	cursor
	ok bool
}

// New makes a blank screen.
func New(o Options) *Screen {
	s := &Screen{opt: o}
	s.cols, s.rows = clampSize(o.Cols, o.Rows)
	if o.Scrollback == 0 {
		s.opt.Scrollback = defaultScrollback
	}
	s.hist.max = max(s.opt.Scrollback, 0)
	s.base = DefaultPalette()
	if o.Palette != nil {
		s.base = *o.Palette
	}
	s.main.rows = s.blankRows(s.rows)
	s.alt.rows = s.blankRows(s.rows)
	s.reset()
	return s
}

func clampSize(cols, rows int) (int, int) {
	if cols <= 0 {
		cols = 80
	}
	if rows <= 0 {
		rows = 24
	}
	return min(cols, MaxCols), min(rows, MaxRows)
}

func (s *Screen) blankRows(n int) []*row {
	rows := make([]*row, n)
	for i := range rows {
		rows[i] = newRow(s.cols, Style{}, s.nextID())
	}
	return rows
}

func (s *Screen) nextID() uint64 {
	s.ids++
	return s.ids
}

// touch says that row y is about to change, and returns it.
func (s *Screen) touch(y int) *row {
	r := s.cur.rows[y]
	r.id = s.nextID()
	return r
}

// Write takes what the program sent. It never fails and never blocks.
func (s *Screen) Write(b []byte) (int, error) {
	n := len(b)
	// In pieces, so that a snapshot or a key waits for one of them only.
	for len(b) > 0 {
		k := min(len(b), 8<<10)
		s.mu.Lock()
		s.p.write(s, b[:k])
		s.mu.Unlock()
		b = b[k:]
	}
	s.out.change(s.opt.Change)
	return n, nil
}

// Reset brings back the state of a new screen, but for the scrollback and what is on it; what was shown moves into it.
func (s *Screen) Reset() {
	s.mu.Lock()
	s.fullReset()
	s.p = parser{}
	s.mu.Unlock()
	s.out.change(s.opt.Change)
}

// reset sets everything but the content of the screens.
func (s *Screen) reset() {
	s.cur = &s.main
	s.m = defaultModes()
	s.c = cursor{}
	s.main.saved, s.alt.saved = savedCursor{}, savedCursor{}
	s.main.kitty, s.alt.kitty = kittyStack{}, kittyStack{}
	s.top, s.bottom = 0, s.rows-1
	s.resetTabs()
	s.cursorS, s.cursorB = CursorBlock, true
	s.lastOK = false
	s.lastText = Cell{}
	s.syncUntil = time.Time{}
	s.titles = nil
	pal := s.base
	s.pal = &pal
}

func (s *Screen) fullReset() {
	s.leaveAlt()
	s.scrollOut()
	s.reset()
	for _, r := range s.main.rows {
		r.clear(Style{}, s.nextID())
	}
	for _, r := range s.alt.rows {
		r.clear(Style{}, s.nextID())
	}
}

// scrollOut moves what is on the main screen into the scrollback.
func (s *Screen) scrollOut() {
	n := len(s.main.rows)
	for n > 0 && used(s.main.rows[n-1].cells) == 0 {
		n--
	}
	for _, r := range s.main.rows[:n] {
		s.hist.push(r)
	}
}

// softReset is DECSTR: modes, margins and attributes, not the content.
func (s *Screen) softReset() {
	mouse := s.m
	s.m = defaultModes()
	s.m.mouse, s.m.mouseEncoding, s.m.focus = mouse.mouse, mouse.mouseEncoding, mouse.focus
	s.m.set(altScroll, mouse.has(altScroll))
	s.c.style, s.c.set, s.c.origin, s.c.pending = Style{}, charsets{}, false, false
	s.top, s.bottom = 0, s.rows-1
	s.main.saved, s.alt.saved = savedCursor{}, savedCursor{}
	s.cur.kitty = kittyStack{}
	s.cursorS, s.cursorB = CursorBlock, true
	s.endSync()
}

func (s *Screen) resetTabs() {
	s.tabs = make([]bool, s.cols)
	for i := 0; i < s.cols; i += 8 {
		s.tabs[i] = true
	}
}

// SetPalette changes what the names of colours mean, as when the theme changes. Colours that the program set are forgotten.
func (s *Screen) SetPalette(p Palette) {
	s.mu.Lock()
	dark := s.base.Dark()
	s.base = p
	pal := p
	s.pal = &pal
	if s.m.has(colorScheme) && dark != p.Dark() {
		s.reportScheme()
	}
	s.mu.Unlock()
	s.out.change(s.opt.Change)
}

// SetCellSize tells the size of a cell in pixels, which programs may ask for.
func (s *Screen) SetCellSize(w, h int) {
	s.mu.Lock()
	s.cellW, s.cellH = w, h
	s.mu.Unlock()
}

// Size is the grid's.
func (s *Screen) Size() (cols, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cols, s.rows
}

// Title is the one that the program set last.
func (s *Screen) Title() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.title
}

// ClearScrollback forgets the lines that have left the main screen, as ED 3 does.
func (s *Screen) ClearScrollback() {
	s.mu.Lock()
	s.hist.clear()
	s.epoch++
	s.mu.Unlock()
	s.out.change(s.opt.Change)
}
