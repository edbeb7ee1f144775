package terminal

import (
	"io"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/widget"
)

// Conn is what a terminal shows and types into. Close must end a blocked Read.
type Conn interface {
	io.ReadWriteCloser
	// Resize tells the program the size of its window, in cells.
	Resize(cols, rows int) error
}

// Options are fixed when a Terminal is made. The zero value is good.
type Options struct {
	FontSize   float32 // of the text, in Fyne's units; 0 means the theme's text size
	Scrollback int     // lines; 0 means 10,000
}

// Terminal is the widget.
type Terminal struct {
	widget.BaseWidget

	// The callbacks may be nil. They are set before Attach and called on the UI goroutine.

	// OnTitle gets the title that the program sets: one line, without control characters.
	OnTitle func(title string)
	// OnBell is called for BEL, at most a few times a second.
	OnBell func()
	// OnNotify gets a desktop notification that the program asks for (OSC 9, OSC 777). The title may be empty.
	OnNotify func(title, body string)
	// OnEnd is called when the Conn's stream has ended: nil after an ordinary end of file, and not at all after Detach.
	OnEnd func(err error)
	// OnClipboard is asked when the program wants to put text on the clipboard; calling allow does it. Without a callback it is refused.
	OnClipboard func(text string, allow func())
	// OnLink gets the address of a link that was clicked with Ctrl held. The program chose it: ask before opening.
	OnLink func(url string)
}

// New makes a terminal that is not attached.
func New(o Options) *Terminal {
	t := &Terminal{}
	t.ExtendBaseWidget(t)
	return t
}

// Attach shows what conn sends and sends it what is typed, beginning with the terminal's size. It replaces a Conn that was attached before.
func (t *Terminal) Attach(conn Conn) {}

// Detach closes the Conn that is attached, if any; what it showed stays visible.
func (t *Terminal) Detach() {}

// Size in cells.
func (t *Terminal) Grid() (cols, rows int) { return 80, 24 }

// Text is the visible text, a line for each row, without trailing blanks.
func (t *Terminal) Text() string { return "" }

// SetFontSize changes the size of the text, in Fyne's units; 0 means the theme's.
func (t *Terminal) SetFontSize(size float32) {}

// FontSize is the size that is in force.
func (t *Terminal) FontSize() float32 { return 0 }

// Send types text as if it came from the keyboard.
func (t *Terminal) Send(text string) {}

// Paste sends text as a paste: bracketed when the program asked for it, control characters taken out.
func (t *Terminal) Paste(text string) {}

// SelectedText is the selected text, or "".
func (t *Terminal) SelectedText() string { return "" }

// ShowSearch opens the search bar.
func (t *Terminal) ShowSearch() {}

// CreateRenderer is called by Fyne.
func (t *Terminal) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(canvas.NewRectangle(nil))
}

// FocusGained is called by Fyne.
func (t *Terminal) FocusGained() {}

// FocusLost is called by Fyne.
func (t *Terminal) FocusLost() {}

// TypedRune is called by Fyne.
func (t *Terminal) TypedRune(rune) {}

// TypedKey is called by Fyne.
func (t *Terminal) TypedKey(*fyne.KeyEvent) {}
