package terminal

import (
	"errors"
	"fmt"
	"image"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/test"

	"capsid/app/terminal/vt"
)

// program is the far end of a Conn.
type program struct {
	out  chan []byte
	done chan struct{}
	once sync.Once

	mu    sync.Mutex
	rest  []byte
	got   string
	sizes [][2]int
	stuck chan struct{} // writes wait for it, when it is not nil
	err   error
}

func newProgram() *program {
	return &program{out: make(chan []byte, 100), done: make(chan struct{}), err: io.EOF}
}

func (p *program) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		select {
		case p.rest = <-p.out:
		case <-p.done:
			return 0, p.err
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *program) Write(b []byte) (int, error) {
	if p.stuck != nil {
		<-p.stuck
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got += string(b)
	return len(b), nil
}

func (p *program) Resize(cols, rows int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sizes = append(p.sizes, [2]int{cols, rows})
	return nil
}

func (p *program) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *program) input() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got
}

func (p *program) size() [2]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sizes) == 0 {
		return [2]int{}
	}
	return p.sizes[len(p.sizes)-1]
}

// stage is a terminal in a window with a program attached. The goroutine of the test is the UI's: what the terminal wants done there is done in until.
type stage struct {
	*Terminal
	p    *program
	w    fyne.Window
	ui   chan func()
	over chan struct{}
}

func (s *stage) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(time.Minute)
	for !ok() {
		select {
		case f := <-s.ui:
			f()
		case <-time.After(2 * time.Millisecond):
		case <-end:
			t.Fatal("waited in vain: " + what)
		}
	}
}

func (s *stage) onTest(f func(), wait bool) {
	done := make(chan struct{})
	select {
	case s.ui <- func() { f(); close(done) }:
	case <-s.over:
		return
	}
	if wait {
		<-done
	}
}

func newStage(t *testing.T) *stage {
	t.Helper()
	test.NewTempApp(t)
	s := &stage{Terminal: New(Options{}), p: newProgram(), ui: make(chan func()), over: make(chan struct{})}
	s.Terminal.onUI = s.onTest
	s.w = test.NewTempWindow(t, s.Terminal)
	s.w.SetPadded(false)
	s.w.Resize(fyne.NewSize(648, 328)) // 80×20 cells of 8×16
	s.w.Canvas().Focus(s.Terminal)
	s.Attach(s.p)
	t.Cleanup(func() { s.Detach(); close(s.over) })
	s.until(t, "the size is told", func() bool { return s.p.size() == [2]int{80, 20} })
	return s
}

func (s *stage) show(t *testing.T, out, want string) {
	t.Helper()
	s.p.out <- []byte(out)
	s.until(t, fmt.Sprintf("%q on the screen", want), func() bool { return strings.Contains(s.Text(), want) })
}

func (s *stage) typed(t *testing.T, want string, do func()) {
	t.Helper()
	before := len(s.p.input())
	do()
	s.until(t, fmt.Sprintf("%q", want), func() bool { return len(s.p.input()) >= before+len(want) })
	if got := s.p.input()[before:]; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func (s *stage) key(name fyne.KeyName, mods ...fyne.KeyName) {
	for _, m := range mods {
		s.KeyDown(&fyne.KeyEvent{Name: m})
	}
	s.KeyDown(&fyne.KeyEvent{Name: name})
	s.TypedKey(&fyne.KeyEvent{Name: name})
	s.KeyUp(&fyne.KeyEvent{Name: name})
	for _, m := range mods {
		s.KeyUp(&fyne.KeyEvent{Name: m})
	}
}

func TestShowsAndTypes(t *testing.T) {
	s := newStage(t)
	s.show(t, "hello \x1b[31mred\x1b[0m", "hello red")
	s.typed(t, "é", func() { test.Type(s.Terminal, "é") })
	s.typed(t, "ls", func() { s.Send("ls") })
	s.typed(t, "\x1b[1;1R", func() { s.p.out <- []byte("\x1b[H\x1b[6n") })
}

func TestKeys(t *testing.T) {
	s := newStage(t)
	short := func(name fyne.KeyName, mod fyne.KeyModifier) func() {
		return func() { s.TypedShortcut(&desktop.CustomShortcut{KeyName: name, Modifier: mod}) }
	}
	s.typed(t, "\r", func() { s.key(fyne.KeyReturn) })
	s.typed(t, "\x1b[Z", func() { s.key(fyne.KeyTab, desktop.KeyShiftLeft) })
	s.typed(t, "\x7f", func() { s.key(fyne.KeyBackspace) })
	s.typed(t, "\x1b[D", func() { s.key(fyne.KeyLeft) })
	s.typed(t, "\x03", func() { s.TypedShortcut(&fyne.ShortcutCopy{}) })
	s.typed(t, "\x16", func() { s.TypedShortcut(&fyne.ShortcutPaste{}) })
	s.typed(t, "\x18\x01\x1a\x19", func() {
		s.TypedShortcut(&fyne.ShortcutCut{})
		s.TypedShortcut(&fyne.ShortcutSelectAll{})
		s.TypedShortcut(&fyne.ShortcutUndo{})
		s.TypedShortcut(&fyne.ShortcutRedo{})
	})
	s.typed(t, "\x04", short(fyne.KeyD, fyne.KeyModifierControl))
	s.typed(t, "\x1bb", short(fyne.KeyB, fyne.KeyModifierAlt))
	s.typed(t, "\x1b[1;5C", short(fyne.KeyRight, fyne.KeyModifierControl))
	s.typed(t, "\x1b\r", short(fyne.KeyReturn, fyne.KeyModifierAlt))
	s.typed(t, "\x00", short(fyne.KeySpace, fyne.KeyModifierControl))

	s.show(t, "\x1b[>7ukitty", "kitty")
	s.typed(t, "\x1b[13;2u", func() { s.key(fyne.KeyReturn, desktop.KeyShiftLeft) })
	s.typed(t, "\x1b[A\x1b[1;1:3A", func() { s.key(fyne.KeyUp) })
	s.typed(t, "\x1b[99;5u", func() { s.TypedShortcut(&fyne.ShortcutCopy{}) })
	if !s.AcceptsTab() {
		t.Error("Tab moves the focus")
	}
}

func TestPaste(t *testing.T) {
	s := newStage(t)
	fyne.CurrentApp().Clipboard().SetContent("a\nb\x1b[201~c")
	s.typed(t, "a\rbc", func() {
		s.TypedShortcut(&desktop.CustomShortcut{KeyName: fyne.KeyV, Modifier: fyne.KeyModifierControl | fyne.KeyModifierShift})
	})
	s.show(t, "\x1b[?2004hready", "ready")
	s.typed(t, "\x1b[200~a\rbc\x1b[201~", func() { s.TypedShortcut(&fyne.ShortcutPaste{Secondary: true}) })
}

func TestResizeIsTold(t *testing.T) {
	s := newStage(t)
	s.w.Resize(fyne.NewSize(8+8*100, 8+16*30))
	s.until(t, "the new size", func() bool { return s.p.size() == [2]int{100, 30} })
	s.SetFontSize(28)
	s.until(t, "the size with larger text", func() bool { return s.p.size()[0] < 60 })
	s.TypedShortcut(&desktop.CustomShortcut{KeyName: fyne.Key0, Modifier: fyne.KeyModifierControl})
	s.until(t, "the old size", func() bool { return s.p.size() == [2]int{100, 30} })
}

func TestEnd(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{{io.EOF, "<nil> The program has ended."}, {errors.New("reset"), "reset The connection was lost: reset"}} {
		s := newStage(t)
		got := make(chan error, 2)
		s.OnEnd = func(err error) { got <- err }
		s.show(t, "last words", "last words")
		s.p.err = c.err
		s.p.Close()
		s.until(t, "OnEnd and the note", func() bool { return len(got) == 1 && s.render.note.Visible() })
		if text := fmt.Sprint(<-got, " ", s.render.noteTxt.Text); text != c.want {
			t.Errorf("%q, want %q", text, c.want)
		}
		if s.Attached() || !strings.Contains(s.Text(), "last words") {
			t.Error("the screen is gone, or the Conn is not")
		}
	}
}

func TestDetachIsSilent(t *testing.T) {
	s := newStage(t)
	s.OnEnd = func(error) { t.Error("OnEnd after Detach") }
	s.Detach()
	select {
	case <-s.p.done:
	case <-time.After(time.Minute):
		t.Fatal("the Conn is not closed")
	}
	next := newProgram()
	s.Attach(next)
	next.out <- []byte("second")
	s.until(t, "the second program", func() bool { return strings.HasPrefix(s.Text(), "second") })
	if next.size() != [2]int{80, 20} {
		t.Errorf("told %v", next.size())
	}
}

func TestTypingNeverBlocks(t *testing.T) {
	s := newStage(t)
	s.p.stuck = make(chan struct{})
	defer close(s.p.stuck)
	start := time.Now()
	for range 1000 {
		s.Send(strings.Repeat("x", 10000))
	}
	s.p.out <- []byte(strings.Repeat("\x1b[c", 100000))
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	s.mu.Lock()
	a := s.link
	s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.out) > maxOut {
		t.Errorf("%d bytes wait", len(a.out))
	}
}

func TestCallbacks(t *testing.T) {
	s := newStage(t)
	got := make(chan string, 100)
	s.OnTitle = func(x string) { got <- "title " + x }
	s.OnBell = func() { got <- "bell" }
	s.OnNotify = func(a, b string) { got <- "notify " + a + "/" + b }
	s.OnClipboard = func(text string, allow func()) { got <- "clip " + text; allow() }
	s.p.out <- []byte("\x1b]0;✳ a;b\x07\x07\x1b]777;notify;T;B\x07\x1b]52;c;aGk=\x07")
	want := map[string]bool{"title ✳ a;b": true, "bell": true, "notify T/B": true, "clip hi": true}
	for len(want) > 0 {
		s.until(t, fmt.Sprint(want), func() bool { return len(got) > 0 })
		x := <-got
		if !want[x] {
			t.Errorf("unexpected %q", x)
		}
		delete(want, x)
	}
	if c := fyne.CurrentApp().Clipboard().Content(); c != "hi" {
		t.Errorf("clipboard is %q", c)
	}
	if s.Title() != "✳ a;b" {
		t.Errorf("title %q", s.Title())
	}
	// A thousand bells between two frames are one.
	s.p.out <- []byte(strings.Repeat("\x07", 1000) + "rung")
	s.until(t, "rung", func() bool { return strings.Contains(s.Text(), "rung") })
	if n := len(got); n > 3 {
		t.Errorf("%d bells", n)
	}
}

// at is the middle of a cell.
func at(x, y int) fyne.Position {
	return fyne.NewPos(padding+float32(x)*8+4, padding+float32(y)*16+8)
}

func (s *stage) mouse(x, y int, b desktop.MouseButton, m fyne.KeyModifier) *desktop.MouseEvent {
	return &desktop.MouseEvent{PointEvent: fyne.PointEvent{Position: at(x, y), AbsolutePosition: at(x, y)}, Button: b, Modifier: m}
}

func (s *stage) drag(x, y int) {
	s.Dragged(&fyne.DragEvent{PointEvent: fyne.PointEvent{Position: at(x, y)}})
}

func TestSelection(t *testing.T) {
	s := newStage(t)
	s.show(t, "one two three\r\nfour five", "four five")
	down := func(x, y int, m fyne.KeyModifier) { s.MouseDown(s.mouse(x, y, desktop.MouseButtonPrimary, m)) }
	up := func(x, y int) { s.MouseUp(s.mouse(x, y, desktop.MouseButtonPrimary, 0)) }
	want := func(text string) {
		t.Helper()
		if got := s.SelectedText(); got != text {
			t.Errorf("selected %q, want %q", got, text)
		}
	}
	down(4, 0, 0)
	s.drag(6, 0)
	up(6, 0)
	want("two")
	down(3, 1, fyne.KeyModifierShift)
	up(3, 1)
	want("two three\nfour")
	s.TypedShortcut(&desktop.CustomShortcut{KeyName: fyne.KeyC, Modifier: fyne.KeyModifierControl | fyne.KeyModifierShift})
	if c := fyne.CurrentApp().Clipboard().Content(); c != "two three\nfour" {
		t.Errorf("copied %q", c)
	}
	down(1, 0, 0)
	up(1, 0)
	want("")
	down(5, 0, 0)
	up(5, 0)
	down(5, 0, 0)
	want("two")
	s.drag(9, 0)
	up(9, 0)
	want("two three")
	for range 3 {
		down(2, 1, 0)
		up(2, 1)
	}
	want("four five")
	s.typed(t, "four five", func() { s.MouseDown(s.mouse(0, 5, desktop.MouseButtonTertiary, 0)) })
	want("") // typing drops it
	s.SelectAll()
	want("one two three\nfour five")
}

func TestMouseReports(t *testing.T) {
	s := newStage(t)
	s.show(t, "\x1b[?1002;1006hmouse on", "mouse on")
	s.typed(t, "\x1b[<0;3;2M\x1b[<32;4;2M\x1b[<0;4;2m", func() {
		s.MouseDown(s.mouse(2, 1, desktop.MouseButtonPrimary, 0))
		s.drag(3, 1)
		s.MouseUp(s.mouse(3, 1, desktop.MouseButtonPrimary, 0))
	})
	s.typed(t, "\x1b[<64;1;1M", func() {
		s.Scrolled(&fyne.ScrollEvent{PointEvent: fyne.PointEvent{Position: at(0, 0)}, Scrolled: fyne.NewDelta(0, notch)})
	})
	// Shift selects in spite of the reports.
	s.MouseDown(s.mouse(0, 0, desktop.MouseButtonPrimary, fyne.KeyModifierShift))
	s.drag(4, 0)
	if got := s.SelectedText(); got != "mouse" {
		t.Errorf("selected %q", got)
	}
	s.show(t, "\x1b[?1004hfocus", "focus")
	s.typed(t, "\x1b[O\x1b[I", func() { s.FocusLost(); s.FocusGained() })
}

func TestScrollback(t *testing.T) {
	s := newStage(t)
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "line %d\r\n", i)
	}
	s.show(t, b.String(), "line 99")
	s.Scrolled(&fyne.ScrollEvent{Scrolled: fyne.NewDelta(0, 2*notch)})
	if !strings.HasPrefix(s.Text(), "line 75\n") {
		t.Errorf("after the wheel: %.20q", s.Text())
	}
	s.key(fyne.KeyPageUp, desktop.KeyShiftLeft)
	if !strings.HasPrefix(s.Text(), "line 56\n") {
		t.Errorf("after Shift+Page Up: %.20q", s.Text())
	}
	s.until(t, "the scroll bar", func() bool { return s.render.bar.Visible() })
	s.p.out <- []byte("more\r\nand more\r\n")
	s.until(t, "the program is read", func() bool { _, base := s.current().Lines(); return base == 83 })
	if !strings.HasPrefix(s.Text(), "line 56\n") {
		t.Errorf("output moved the view: %.20q", s.Text())
	}
	s.key(fyne.KeyHome, desktop.KeyShiftLeft)
	if !strings.HasPrefix(s.Text(), "line 0\n") {
		t.Errorf("after Shift+Home: %.20q", s.Text())
	}
	s.typed(t, "x", func() { test.Type(s.Terminal, "x") })
	if !strings.Contains(s.Text(), "and more") {
		t.Error("typing does not go back to the newest line")
	}
}

func TestSearch(t *testing.T) {
	s := newStage(t)
	s.show(t, "a needle here\r\n"+strings.Repeat("hay\r\n", 60)+"Needle", "Needle")
	s.ShowSearch()
	if s.w.Canvas().Focused() != s.search.entry {
		t.Fatal("the search bar has no focus")
	}
	test.Type(s.search.entry, "needle")
	s.until(t, "two results", func() bool { return s.search.count.Text == "2 of 2" })
	s.search.entry.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
	if s.search.count.Text != "1 of 2" || !strings.Contains(s.Text(), "a needle here") {
		t.Errorf("%s, %.20q", s.search.count.Text, s.Text())
	}
	s.search.entry.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if s.search.box.Visible() || s.w.Canvas().Focused() != s.Terminal {
		t.Error("Escape does not close the bar")
	}
}

func TestLinks(t *testing.T) {
	s := newStage(t)
	var got []string
	s.OnLink = func(u string) { got = append(got, u) }
	s.show(t, "see https://a.example/b now", "now")
	for _, m := range []fyne.KeyModifier{0, fyne.KeyModifierControl} {
		s.MouseDown(s.mouse(8, 0, desktop.MouseButtonPrimary, m))
		s.MouseUp(s.mouse(8, 0, desktop.MouseButtonPrimary, m))
	}
	if fmt.Sprint(got) != "[https://a.example/b]" {
		t.Errorf("%v", got)
	}
	s.MouseMoved(s.mouse(9, 0, 0, 0))
	s.KeyDown(&fyne.KeyEvent{Name: desktop.KeyControlLeft})
	if s.Cursor() != desktop.PointerCursor {
		t.Error("no pointing hand over a link")
	}
	s.KeyUp(&fyne.KeyEvent{Name: desktop.KeyControlLeft})
	if s.Cursor() != desktop.TextCursor {
		t.Error("the hand stays")
	}
}

func TestPixels(t *testing.T) {
	s := newStage(t)
	s.show(t, "\x1b[?25l\x1b[48;2;255;0;0m  \x1b[0m──\x1b[7m \x1b[0m\x1b]11;#102030\x07done", "done")
	px := func(x, y int) vt.RGB { return rgb(s.w.Canvas().Capture().At(x, y)) }
	s.until(t, "the background's colour", func() bool { return px(600, 300) == vt.RGB{R: 0x10, G: 0x20, B: 0x30} })
	if got := px(padding+4, padding+8); got != (vt.RGB{R: 255}) {
		t.Errorf("a red cell is %v", got)
	}
	img := s.w.Canvas().Capture()
	lit := 0
	for x := padding + 2*8; x < padding+4*8; x++ { // the line has no gap between its cells
		for y := padding; y < padding+16; y++ {
			if rgb(img.At(x, y)) != (vt.RGB{R: 0x10, G: 0x20, B: 0x30}) {
				lit++
				break
			}
		}
	}
	if lit != 16 {
		t.Errorf("the line is %d pixels long", lit)
	}
}

func TestBoxesJoin(t *testing.T) {
	for _, size := range [][2]int{{8, 16}, {9, 19}, {11, 23}, {16, 32}, {5, 10}} {
		w, h, l := size[0], size[1], max(1, size[0]/8)
		edge := func(m *image.Alpha, side int) (out []int) {
			n := []int{w, h, w, h}[side]
			for i := range n {
				x, y := []int{i, w - 1, i, 0}[side], []int{0, i, h - 1, i}[side]
				if m.AlphaAt(x, y).A > 127 {
					out = append(out, i)
				}
			}
			return out
		}
		for r := rune(0x2500); r <= 0x257f; r++ {
			m := drawBox(r, w, h, l)
			if r >= 0x2504 && r <= 0x250b || r >= 0x254c && r <= 0x254f || r >= 0x2571 && r <= 0x2573 {
				continue
			}
			// Each arm leaves the cell where the plain line of its weight does.
			want := []rune{0, '│', '┃', '║', 0, '─', '━', '═'}
			code := "0110001110011100"
			if r >= 0x256d && r <= 0x2570 {
				code = code[(r-0x256d)*4 : (r-0x256d)*4+4]
			} else {
				code = arms[(r-0x2500)*4 : (r-0x2500)*4+4]
			}
			for side := range 4 {
				k := int(code[side]-'0') + 4*(side%2)
				var expect []int
				if want[k] != 0 {
					expect = edge(drawBox(want[k], w, h, l), side)
				}
				if got := edge(m, side); fmt.Sprint(got) != fmt.Sprint(expect) {
					t.Errorf("%c at %v, side %d: %v, want %v", r, size, side, got, expect)
				}
			}
		}
	}
}

func TestGlyphs(t *testing.T) {
	f := newFace(sharedFonts(), 14)
	if f.cellW != 8 || f.cellH < 15 || f.baseline >= f.cellH {
		t.Errorf("cell %d×%d, baseline %d", f.cellW, f.cellH, f.baseline)
	}
	for _, s := range []string{"a", "é", "e\u0301", "⏺", "✳", "⎿", "❯", "→", "🚀", "🇩🇪"} {
		if g := f.glyph(glyphKey{text: s, cells: 1 + uint8(min(len(s)/4, 1))}); g.mask == nil {
			t.Errorf("%q is blank", s)
		}
	}
	for _, s := range []string{" ", "\u00a0", "\u2003", "\u3000"} {
		if g := f.glyph(glyphKey{text: s, cells: 1}); g.mask != nil {
			t.Errorf("%q is not blank", s)
		}
	}
	for i := range 2 * maxGlyphs {
		f.glyph(glyphKey{text: string(rune(0x4e00 + i)), cells: 2})
	}
	if len(f.glyphs) > maxGlyphs {
		t.Errorf("%d glyphs are kept", len(f.glyphs))
	}
}
