package vt

import (
	"fmt"
	"unicode/utf8"
)

// Button is a pointer's button as xterm numbers them.
type Button uint8

const (
	ButtonLeft   Button = 0
	ButtonMiddle Button = 1
	ButtonRight  Button = 2
	ButtonNone   Button = 3 // movement with no button down
	WheelUp      Button = 64
	WheelDown    Button = 65
	WheelLeft    Button = 66
	WheelRight   Button = 67
)

// MouseAction is what happened.
type MouseAction uint8

const (
	MousePress MouseAction = iota
	MouseRelease
	MouseMove
)

// MouseEvent is one event at a cell, counted from 0.
type MouseEvent struct {
	X, Y   int
	Button Button // on a move, the one that is down
	Action MouseAction
	Mods   Mods
}

// EncodeMouse gives the bytes that the program expects for a pointer event; nil when it is to hear nothing.
func EncodeMouse(ev MouseEvent, m Modes) []byte {
	wheel := ev.Button >= WheelUp
	switch {
	case m.Mouse == MouseOff,
		ev.Action == MouseMove && m.Mouse != MouseAny && (m.Mouse != MouseDrag || ev.Button == ButtonNone),
		ev.Action == MouseRelease && (m.Mouse == MouseX10 || wheel),
		m.Mouse == MouseX10 && wheel:
		return nil
	}
	b := int(ev.Button)
	if ev.Action == MouseMove {
		b += 32
	}
	if m.Mouse != MouseX10 {
		if ev.Mods&Shift != 0 {
			b += 4
		}
		if ev.Mods&Alt != 0 {
			b += 8
		}
		if ev.Mods&Ctrl != 0 {
			b += 16
		}
	}
	x, y := max(ev.X, 0)+1, max(ev.Y, 0)+1
	if m.MouseEncoding == EncodingSGR {
		final := 'M'
		if ev.Action == MouseRelease {
			final = 'm'
		}
		return fmt.Appendf(nil, "\x1b[<%d;%d;%d%c", b, x, y, final)
	}
	if ev.Action == MouseRelease { // the older encodings do not tell which
		b = b&^3 | 3
	}
	switch m.MouseEncoding {
	case EncodingURXVT:
		return fmt.Appendf(nil, "\x1b[%d;%d;%dM", b+32, x, y)
	case EncodingUTF8:
		out := append([]byte("\x1b[M"), byte(b+32))
		out = utf8.AppendRune(out, rune(x+32))
		return utf8.AppendRune(out, rune(y+32))
	}
	if x > 223 || y > 223 { // does not fit into a byte
		return nil
	}
	return append([]byte("\x1b[M"), byte(b+32), byte(x+32), byte(y+32))
}

// EncodeWheel gives the bytes for lines of the wheel, up when negative: reports if the program wants them, cursor keys on the alternate
// screen if it has not refused that, else nil, and then the view is scrolled.
func EncodeWheel(lines, x, y int, mods Mods, m Modes) []byte {
	n := min(max(lines, -lines), 50)
	var one []byte
	switch {
	case m.Mouse != MouseOff:
		b := WheelDown
		if lines < 0 {
			b = WheelUp
		}
		one = EncodeMouse(MouseEvent{X: x, Y: y, Button: b, Mods: mods}, m)
		n = (n + 2) / 3 // a report is a notch, which is three lines
	case m.AltScreen && m.AltScroll:
		k := KeyDown
		if lines < 0 {
			k = KeyUp
		}
		one = EncodeKey(KeyEvent{Key: k}, m)
	}
	var out []byte
	for range n {
		out = append(out, one...)
	}
	return out
}

// EncodeFocus is mode 1004's report.
func EncodeFocus(in bool, m Modes) []byte {
	switch {
	case !m.Focus:
		return nil
	case in:
		return []byte("\x1b[I")
	}
	return []byte("\x1b[O")
}
