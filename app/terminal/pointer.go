package terminal

import (
	"math"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"capsid/app/terminal/vt"
)

const (
	clickInterval = 400 * time.Millisecond
	notch         = 25 // Fyne's units for a notch of a wheel
	notchLines    = 3
)

// pointerState is used on the UI goroutine alone.
type pointerState struct {
	x, y     int           // cell
	pos      fyne.Position // of the pointer, while inside is set
	inside   bool
	reported bool // the button that is down was told to the program
	button   vt.Button
	down     bool
	mods     vt.Mods

	clicks    int
	clickedAt time.Time
	unit      int         // what a drag selects: 1 cells, 2 words, 3 lines
	anchor    vt.Span     // where the selection began
	scrolled  float32     // part of a line
	drift     *time.Timer // scrolls while a drag is held outside
	driftBy   int
}

// position is the cell by its line's absolute number.
func (t *Terminal) position(x, y int) vt.Position {
	return vt.Position{Line: t.topLine() + y, Col: x}
}

func (t *Terminal) topLine() int {
	t.mu.Lock()
	s, top := t.screen, t.view.top
	t.mu.Unlock()
	first, base := s.Lines()
	if top < 0 || top > base {
		return base
	}
	return max(top, first)
}

// reports says whether a pointer event belongs to the program: it asked for them, and Shift does not hold them back.
func (t *Terminal) reports(mods vt.Mods) bool {
	return t.current().Modes().Mouse != vt.MouseOff && mods&vt.Shift == 0
}

func (t *Terminal) reportMouse(x, y int, b vt.Button, a vt.MouseAction, mods vt.Mods) {
	t.report(vt.EncodeMouse(vt.MouseEvent{X: x, Y: y, Button: b, Action: a, Mods: mods}, t.current().Modes()))
}

// MouseDown is called by Fyne.
func (t *Terminal) MouseDown(ev *desktop.MouseEvent) {
	t.focus()
	p := &t.pointer
	x, y := t.cellAt(ev.Position)
	mods := vtMods(ev.Modifier)
	again := x == p.x && y == p.y && time.Since(p.clickedAt) < clickInterval
	p.x, p.y, p.mods, p.down, p.reported = x, y, mods, true, false
	switch ev.Button {
	case desktop.MouseButtonSecondary:
		p.button = vt.ButtonRight
	case desktop.MouseButtonTertiary:
		p.button = vt.ButtonMiddle
	default:
		p.button = vt.ButtonLeft
	}
	if t.reports(mods) {
		p.reported = true
		t.reportMouse(x, y, p.button, vt.MousePress, mods)
		return
	}
	switch p.button {
	case vt.ButtonRight:
		t.showMenu(ev.AbsolutePosition)
	case vt.ButtonMiddle:
		if text := t.SelectedText(); text != "" {
			t.Paste(text)
		} else {
			t.PasteClipboard()
		}
	default:
		if again {
			p.clicks++
		} else {
			p.clicks = 1
		}
		p.clickedAt = time.Now()
		t.click(t.position(x, y), mods)
	}
}

// click begins or extends a selection.
func (t *Terminal) click(at vt.Position, mods vt.Mods) {
	p := &t.pointer
	p.unit = (p.clicks-1)%3 + 1
	t.mu.Lock()
	selected := t.view.selected
	t.mu.Unlock()
	if mods&vt.Shift != 0 && p.clicks == 1 && selected {
		t.extend(at)
		return
	}
	p.anchor = t.unitAt(at)
	p.anchor.Block = mods&vt.Alt != 0
	if p.unit == 1 {
		t.mu.Lock()
		t.view.selected = false
		t.mu.Unlock()
		t.pace.kick()
		return
	}
	t.setSelection(p.anchor)
}

func (t *Terminal) unitAt(at vt.Position) vt.Span {
	switch t.pointer.unit {
	case 2:
		return t.current().Word(at)
	case 3:
		return t.current().WholeLine(at)
	}
	return vt.Span{From: at, To: at}
}

// extend stretches the selection from its anchor to a cell.
func (t *Terminal) extend(at vt.Position) {
	a, b := t.pointer.anchor, t.unitAt(at)
	span := vt.Span{From: a.From, To: b.To, Block: a.Block}
	if b.From.Before(a.From) {
		span.From, span.To = a.To, b.From
	}
	t.setSelection(span)
}

// MouseUp is called by Fyne.
func (t *Terminal) MouseUp(ev *desktop.MouseEvent) {
	p := &t.pointer
	x, y := t.cellAt(ev.Position)
	p.down = false
	t.stopDrift()
	if p.reported {
		p.reported = false
		t.reportMouse(x, y, p.button, vt.MouseRelease, vtMods(ev.Modifier))
		return
	}
	if p.button == vt.ButtonLeft && p.mods&vt.Ctrl != 0 && x == p.x && y == p.y {
		if uri, _ := t.current().LinkAt(t.position(x, y)); uri != "" && t.OnLink != nil {
			t.OnLink(uri)
		}
	}
}

// Dragged is called by Fyne.
func (t *Terminal) Dragged(ev *fyne.DragEvent) {
	p := &t.pointer
	x, y := t.cellAt(ev.Position)
	if !p.down {
		return
	}
	if p.reported {
		if x != p.x || y != p.y {
			p.x, p.y = x, y
			t.reportMouse(x, y, p.button, vt.MouseMove, vtMods(t.keys.mods))
		}
		return
	}
	if p.button != vt.ButtonLeft {
		return
	}
	p.x, p.y = x, y
	t.extend(t.position(x, y))
	switch h := t.Size().Height; {
	case ev.Position.Y < 0:
		t.startDrift(-1)
	case ev.Position.Y > h:
		t.startDrift(1)
	default:
		t.stopDrift()
	}
}

// DragEnd is called by Fyne.
func (t *Terminal) DragEnd() { t.stopDrift() }

const driftInterval = 40 * time.Millisecond

// startDrift scrolls and selects on while the pointer is held above or below the terminal.
func (t *Terminal) startDrift(by int) {
	p := &t.pointer
	p.driftBy = by
	if p.drift != nil {
		return
	}
	var step func()
	step = func() {
		t.onUI(func() {
			if p.drift == nil {
				return
			}
			t.scrollBy(p.driftBy)
			t.extend(t.position(p.x, p.y))
			p.drift = time.AfterFunc(driftInterval, step)
		}, false)
	}
	p.drift = time.AfterFunc(driftInterval, step)
}

func (t *Terminal) stopDrift() {
	if d := t.pointer.drift; d != nil {
		d.Stop()
		t.pointer.drift = nil
	}
}

// MouseIn is called by Fyne.
func (t *Terminal) MouseIn(ev *desktop.MouseEvent) { t.MouseMoved(ev) }

// MouseMoved is called by Fyne.
func (t *Terminal) MouseMoved(ev *desktop.MouseEvent) {
	p := &t.pointer
	p.pos, p.inside = ev.Position, true
	x, y := t.cellAt(ev.Position)
	if x == p.x && y == p.y {
		return
	}
	p.x, p.y = x, y
	if t.reports(0) {
		b := vt.ButtonNone
		if p.down && p.reported {
			b = p.button
		}
		t.reportMouse(x, y, b, vt.MouseMove, vtMods(t.keys.mods))
	}
	t.hoverAgain()
}

// MouseOut is called by Fyne.
func (t *Terminal) MouseOut() {
	t.pointer.inside = false
	t.hoverAgain()
}

// hoverAgain underlines the link under the pointer while Ctrl is down.
func (t *Terminal) hoverAgain() {
	p := &t.pointer
	var uri string
	var span vt.Span
	if p.inside && t.keys.mods&fyne.KeyModifierControl != 0 {
		x, y := t.cellAt(p.pos)
		uri, span = t.current().LinkAt(t.position(x, y))
	}
	t.mu.Lock()
	changed := t.view.hovering != (uri != "") || t.view.hover != span
	t.view.hovering, t.view.hover = uri != "", span
	t.mu.Unlock()
	if changed {
		t.pace.kick()
	}
}

// Cursor is called by Fyne.
func (t *Terminal) Cursor() desktop.Cursor {
	t.mu.Lock()
	hovering := t.view.hovering
	t.mu.Unlock()
	switch {
	case hovering:
		return desktop.PointerCursor
	case t.reports(vtMods(t.keys.mods)):
		return desktop.DefaultCursor
	}
	return desktop.TextCursor
}

// Scrolled is called by Fyne.
func (t *Terminal) Scrolled(ev *fyne.ScrollEvent) {
	p := &t.pointer
	p.scrolled -= ev.Scrolled.DY / notch * notchLines
	lines := int(math.Trunc(float64(p.scrolled)))
	if lines == 0 {
		return
	}
	p.scrolled -= float32(lines)
	x, y := t.cellAt(ev.Position)
	mods := vtMods(t.keys.mods)
	m := t.current().Modes()
	if mods&vt.Shift != 0 {
		m.Mouse = vt.MouseOff
	}
	if b := vt.EncodeWheel(lines, x, y, mods, m); b != nil {
		t.report(b)
		return
	}
	t.scrollBy(min(max(lines, -200), 200))
}

// scrollBy moves the view by lines, up when negative.
func (t *Terminal) scrollBy(lines int) {
	t.scrollTo(max(t.topLine()+lines, 0))
}

// scrollTo puts a line at the top of the view; the newest when it is negative or after what is kept.
func (t *Terminal) scrollTo(top int) {
	first, base := t.current().Lines()
	if top >= base || t.current().Modes().AltScreen {
		top = -1
	} else if top >= 0 {
		top = max(top, first)
	}
	t.mu.Lock()
	t.view.top = top
	t.mu.Unlock()
	t.pace.kick()
}

func (t *Terminal) focus() {
	if c := fyne.CurrentApp().Driver().CanvasForObject(t); c != nil && c.Focused() != t {
		c.Focus(t)
	}
}
