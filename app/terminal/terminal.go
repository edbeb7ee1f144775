package terminal

import (
	"strings"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"

	"capsid/app/terminal/vt"
)

// Options are fixed when a Terminal is made. The zero value is good.
type Options struct {
	FontSize   float32     // of the text, in Fyne's units; 0 means the theme's text size
	Scrollback int         // lines; 0 means 10,000
	Palette    *vt.Palette // nil means colours that go with the theme
}

// Terminal is the widget.
type Terminal struct {
	widget.BaseWidget

	// The callbacks may be nil. They are set before Attach and called on the UI goroutine.

	// OnTitle gets the title that the program sets: one line, without control characters.
	OnTitle func(title string)
	// OnBell is called for BEL, at most a few times a second.
	OnBell func()
	// OnNotify gets a desktop notification that the program asks for (OSC 9, OSC 777), at most one a second. The title may be empty.
	OnNotify func(title, body string)
	// OnEnd is called when the Conn's stream has ended: nil after an ordinary end of file, and not at all after Detach.
	OnEnd func(err error)
	// OnClipboard is asked when the program wants to put text on the clipboard; calling allow does it. Without a callback it is refused.
	OnClipboard func(text string, allow func())
	// OnLink gets the address of a link that was clicked with Ctrl held. The program chose it: ask before opening.
	OnLink func(url string)

	opt   Options
	fonts *fontSet
	pace  pacer
	paint painter                   // of the frame goroutine
	onUI  func(f func(), wait bool) // runs f on the UI goroutine; never called there

	// mu guards what follows. It is never held while a callback or a method of Fyne runs.
	mu       sync.Mutex
	screen   *vt.Screen
	link     *attachment
	ending   string // why the stream ended, as shown
	fontSize float32
	scale    float32 // pixels for each of Fyne's units
	size     fyne.Size
	hidden   bool // in a tab behind, say: nothing is drawn
	colours  colours
	focused  bool
	blinkOff bool
	blink    *time.Timer
	lastKey  time.Time // of typing, after which the cursor stays lit for a while
	news     news
	view     view

	keys    keyState
	pointer pointerState
	search  *searchBar
	render  *renderer
}

// view is what part of the screen is shown, and what is laid over it.
type view struct {
	top      int // absolute number of the first line, or -1 for the newest
	selected bool
	span     vt.Span
	epoch    uint64 // that span and found belong to
	found    []vt.Span
	current  int // index in found
	hover    vt.Span
	hovering bool
}

// New makes a terminal that is not attached.
func New(o Options) *Terminal {
	t := &Terminal{opt: o, fonts: sharedFonts(), scale: 1, fontSize: o.FontSize}
	t.view.top = -1
	t.colours = defaultColours(o.Palette)
	t.pace.frame = t.frame
	t.onUI = func(f func(), wait bool) {
		if wait {
			fyne.DoAndWait(f)
		} else {
			fyne.Do(f)
		}
	}
	t.screen = t.newScreen()
	t.ExtendBaseWidget(t)
	return t
}

func (t *Terminal) newScreen() *vt.Screen {
	var s *vt.Screen
	s = vt.New(vt.Options{
		Scrollback: t.opt.Scrollback,
		Palette:    &t.colours.palette,
		Change:     t.pace.kick,
		Reply:      func(b []byte) { t.reply(s, b) },
		Title:      func(title string) { t.tell(func(n *news) { n.title = &title }) },
		Bell:       func() { t.tell(func(n *news) { n.bell = true }) },
		Notify: func(title, body string) {
			t.tell(func(n *news) { n.notice = &notice{title, body} })
		},
		ClipboardWrite: func(text string) { t.tell(func(n *news) { n.clip = &text }) },
	})
	return s
}

// Attach shows what conn sends and sends it what is typed, beginning with the terminal's size. It replaces a Conn that was attached before,
// and what that one showed.
func (t *Terminal) Attach(conn Conn) {
	t.mu.Lock()
	old := t.link
	t.screen = t.newScreen()
	t.ending = ""
	t.view = view{top: -1}
	cols, rows := t.paint.cols, t.paint.rowsN
	if cols > 0 {
		t.screen.Resize(cols, rows)
	}
	t.link = newAttachment(conn, t.screen, cols, rows, t.ended)
	t.mu.Unlock()
	if old != nil {
		old.close()
	}
	t.pace.kick()
}

// Detach closes the Conn that is attached, if any; what it showed stays visible.
func (t *Terminal) Detach() {
	t.mu.Lock()
	old := t.link
	t.link = nil
	t.mu.Unlock()
	if old != nil {
		old.close()
	}
	t.pace.kick()
}

// Attached says whether a Conn is attached and has not ended.
func (t *Terminal) Attached() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.link != nil
}

func (t *Terminal) ended(a *attachment, err error) {
	t.mu.Lock()
	if t.link != a {
		t.mu.Unlock()
		return
	}
	t.link = nil
	t.ending = "The program has ended."
	if err != nil {
		t.ending = "The connection was lost: " + err.Error()
	}
	t.mu.Unlock()
	t.tell(func(n *news) { n.ended, n.err = true, err })
}

// reply sends an answer of the screen's, if it is still the one that is attached.
func (t *Terminal) reply(s *vt.Screen, b []byte) {
	t.mu.Lock()
	a := t.link
	t.mu.Unlock()
	if a != nil && a.screen == s {
		a.send(b, maxReplies)
	}
}

// send types bytes: the view goes back to the newest line and the selection is dropped.
func (t *Terminal) send(b []byte) {
	if len(b) == 0 {
		return
	}
	t.mu.Lock()
	a := t.link
	t.view.top = -1
	t.view.selected = false
	t.blinkOff = false
	t.lastKey = time.Now()
	t.mu.Unlock()
	if a != nil {
		a.send(b, maxOut)
	}
	t.pace.kick()
}

// report sends bytes that are no typing: they leave view and selection as they are.
func (t *Terminal) report(b []byte) {
	t.mu.Lock()
	a := t.link
	t.mu.Unlock()
	if a != nil && len(b) > 0 {
		a.send(b, maxOut)
	}
}

func (t *Terminal) current() *vt.Screen {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen
}

// Send types text as if it came from the keyboard.
func (t *Terminal) Send(text string) { t.send([]byte(text)) }

// Paste sends text as a paste: bracketed when the program asked for it, control characters taken out.
func (t *Terminal) Paste(text string) {
	if text != "" {
		t.send(vt.EncodePaste(text, t.current().Modes()))
	}
}

// Grid is the size in cells.
func (t *Terminal) Grid() (cols, rows int) { return t.current().Size() }

// Title is the one that the program set last.
func (t *Terminal) Title() string { return t.current().Title() }

// Text is the visible text, a line for each row, without trailing blanks.
func (t *Terminal) Text() string {
	t.mu.Lock()
	s, top := t.screen, t.view.top
	t.mu.Unlock()
	var f vt.Frame
	s.Snapshot(&f, top)
	lines := make([]string, len(f.Lines))
	for i := range f.Lines {
		lines[i] = f.Lines[i].Text()
	}
	return strings.Join(lines, "\n")
}

// SelectedText is the selected text, or "".
func (t *Terminal) SelectedText() string {
	t.mu.Lock()
	s, on, span := t.screen, t.view.selected, t.view.span
	t.mu.Unlock()
	if !on {
		return ""
	}
	return s.Text(span)
}

// SelectAll selects the scrollback and the screen.
func (t *Terminal) SelectAll() {
	t.setSelection(t.current().All())
}

func (t *Terminal) setSelection(span vt.Span) {
	t.mu.Lock()
	t.view.span, t.view.selected = span, true
	t.mu.Unlock()
	t.pace.kick()
}

// ClearScrollback forgets what has left the screen.
func (t *Terminal) ClearScrollback() {
	t.current().ClearScrollback()
	t.scrollTo(-1)
}

const (
	minFontSize = 6
	maxFontSize = 60
)

// SetFontSize changes the size of the text, in Fyne's units; 0 means the theme's.
func (t *Terminal) SetFontSize(size float32) {
	if size != 0 {
		size = min(max(size, minFontSize), maxFontSize)
	}
	t.mu.Lock()
	t.fontSize = size
	t.mu.Unlock()
	t.pace.kick()
}

// FontSize is the size that is in force.
func (t *Terminal) FontSize() float32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fontSize == 0 {
		return t.colours.textSize
	}
	return t.fontSize
}

// Show is called by Fyne.
func (t *Terminal) Show() {
	t.setHidden(false)
	t.BaseWidget.Show()
}

// Hide is called by Fyne.
func (t *Terminal) Hide() {
	t.setHidden(true)
	t.BaseWidget.Hide()
}

func (t *Terminal) setHidden(hidden bool) {
	t.mu.Lock()
	t.hidden = hidden
	t.mu.Unlock()
	t.pace.kick()
}

// AcceptsTab keeps Tab for the program.
func (t *Terminal) AcceptsTab() bool { return true }

// FocusGained is called by Fyne.
func (t *Terminal) FocusGained() {
	if d, ok := fyne.CurrentApp().Driver().(desktop.Driver); ok {
		t.keys.mods = d.CurrentKeyModifiers()
	}
	t.setFocus(true)
}

// FocusLost is called by Fyne.
func (t *Terminal) FocusLost() {
	t.keys = keyState{}
	t.setFocus(false)
}

func (t *Terminal) setFocus(on bool) {
	t.mu.Lock()
	changed := t.focused != on
	t.focused, t.blinkOff = on, false
	t.lastKey = time.Now()
	s := t.screen
	t.mu.Unlock()
	if changed {
		t.report(vt.EncodeFocus(on, s.Modes()))
	}
	t.pace.kick()
}

const (
	blinkInterval = 530 * time.Millisecond
	blinkFor      = 30 * time.Second // after the last key; then it stays lit and nothing wakes up
)

// keepBlinking is called after each frame that shows a blinking cursor.
func (t *Terminal) keepBlinking() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blink != nil || !t.focused {
		return
	}
	if time.Since(t.lastKey) > blinkFor {
		if t.blinkOff {
			t.blinkOff = false
			t.pace.kick()
		}
		return
	}
	t.blink = time.AfterFunc(blinkInterval, func() {
		t.mu.Lock()
		t.blink = nil
		// A key that was just typed keeps the cursor lit.
		t.blinkOff = t.focused && !t.blinkOff && time.Since(t.lastKey) > blinkInterval
		t.mu.Unlock()
		t.pace.kick()
	})
}
