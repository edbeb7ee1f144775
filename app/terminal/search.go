package terminal

import (
	"fmt"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// maxFound bounds the results that are kept.
const maxFound = 1000

// searchBar is the bar over the terminal's top right corner.
type searchBar struct {
	t     *Terminal
	box   *fyne.Container
	entry *searchEntry
	count *widget.Label
	asked int // searches so far; a result of an older one is dropped
}

// searchEntry is an entry that hands Escape and Return on.
type searchEntry struct {
	widget.Entry
	onKey func(*fyne.KeyEvent) bool
}

// TypedKey is called by Fyne.
func (e *searchEntry) TypedKey(ev *fyne.KeyEvent) {
	if !e.onKey(ev) {
		e.Entry.TypedKey(ev)
	}
}

func newSearchBar(t *Terminal) *searchBar {
	b := &searchBar{t: t, count: widget.NewLabel("")}
	b.entry = &searchEntry{onKey: b.key}
	b.entry.ExtendBaseWidget(b.entry)
	b.entry.SetPlaceHolder("Find in the terminal")
	b.entry.OnChanged = func(string) { b.find() }
	ground := canvas.NewRectangle(theme.Color(theme.ColorNameOverlayBackground))
	ground.CornerRadius = 4
	tools := container.NewHBox(b.count,
		widget.NewButtonWithIcon("", theme.MoveUpIcon(), func() { b.step(-1) }),
		widget.NewButtonWithIcon("", theme.MoveDownIcon(), func() { b.step(1) }),
		widget.NewButtonWithIcon("", theme.CancelIcon(), b.close))
	wide := canvas.NewRectangle(nil)
	wide.SetMinSize(fyne.NewSize(220, 0))
	b.box = container.NewStack(ground, container.NewBorder(nil, nil, nil, tools, container.NewStack(wide, b.entry)))
	b.box.Hide()
	return b
}

// ShowSearch opens the search bar.
func (t *Terminal) ShowSearch() {
	b := t.search
	if b == nil {
		return
	}
	b.box.Show()
	t.render.Layout(t.render.size)
	if c := fyne.CurrentApp().Driver().CanvasForObject(t); c != nil {
		c.Focus(b.entry)
	}
	if text := t.SelectedText(); text != "" && len(text) < 100 && !strings.Contains(text, "\n") {
		b.entry.SetText(text)
	}
	b.entry.TypedShortcut(&fyne.ShortcutSelectAll{})
	b.find()
}

func (b *searchBar) key(ev *fyne.KeyEvent) bool {
	switch ev.Name {
	case fyne.KeyEscape:
		b.close()
	case fyne.KeyReturn, fyne.KeyEnter, fyne.KeyUp:
		b.step(-1)
	case fyne.KeyDown:
		b.step(1)
	default:
		return false
	}
	return true
}

func (b *searchBar) close() {
	b.asked++
	b.box.Hide()
	t := b.t
	t.mu.Lock()
	t.view.found = nil
	t.mu.Unlock()
	t.pace.kick()
	t.focus()
}

// find searches on a goroutine, since a long scrollback takes a while, and shows the newest result.
func (b *searchBar) find() {
	b.asked++
	asked, text, t := b.asked, b.entry.Text, b.t
	s := t.current()
	go func() {
		found := s.Find(text, maxFound)
		t.onUI(func() {
			if b.asked != asked {
				return
			}
			t.mu.Lock()
			t.view.found, t.view.current = found, len(found)
			t.mu.Unlock()
			b.step(-1)
		}, false)
	}()
}

// step goes to the next result, upwards when negative.
func (b *searchBar) step(by int) {
	t := b.t
	t.mu.Lock()
	v := &t.view
	n := len(v.found)
	if n == 0 {
		t.mu.Unlock()
		b.count.SetText("none")
		if b.entry.Text == "" {
			b.count.SetText("")
		}
		t.pace.kick()
		return
	}
	v.current = ((v.current+by)%n + n) % n
	at, current := v.found[v.current].From.Line, v.current
	t.mu.Unlock()
	b.count.SetText(fmt.Sprintf("%d of %d", current+1, n))
	top := t.topLine()
	if _, rows := t.Grid(); at < top || at >= top+rows {
		t.scrollTo(max(at-rows/2, 0))
	}
	t.pace.kick()
}
