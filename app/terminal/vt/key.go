package vt

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Key is a key: the character that it types without Shift, or one of the constants for keys that type none.
type Key rune

const (
	KeyNone Key = 0
	// The ASCII controls that keys are named by in the kitty protocol.
	KeyTab       Key = 9
	KeyEnter     Key = 13
	KeyEscape    Key = 27
	KeyBackspace Key = 127

	// The rest stand above Unicode.
	KeyUp Key = unicode.MaxRune + 1 + iota
	KeyDown
	KeyRight
	KeyLeft
	KeyHome
	KeyEnd
	KeyInsert
	KeyDelete
	KeyPageUp
	KeyPageDown
	KeyF1
	KeyF2
	KeyF3
	KeyF4
	KeyF5
	KeyF6
	KeyF7
	KeyF8
	KeyF9
	KeyF10
	KeyF11
	KeyF12
	KeyPadEnter
	KeyLeftShift
	KeyLeftControl
	KeyLeftAlt
	KeyLeftSuper
	KeyRightShift
	KeyRightControl
	KeyRightAlt
	KeyRightSuper
	KeyCapsLock
	KeyPrintScreen
	KeyMenu
)

// Mods is a set of modifiers; the bits are those of the kitty protocol and, for the first three, of xterm.
type Mods uint8

const (
	Shift Mods = 1 << iota
	Alt
	Ctrl
	Super
)

// KeyAction is what happened to a key; the numbers are the kitty protocol's.
type KeyAction uint8

const (
	KeyPress KeyAction = iota + 1
	KeyRepeat
	KeyRelease
)

// KeyEvent is one key event. Text is what it types, if anything: it follows the keyboard's layout, Shift and AltGr.
type KeyEvent struct {
	Key    Key
	Mods   Mods
	Text   string
	Action KeyAction // 0 is KeyPress
}

// EncodeKey gives the bytes that the program expects for a key in the modes that it has set; nil when it is to hear nothing.
func EncodeKey(ev KeyEvent, m Modes) []byte {
	if ev.Action == 0 {
		ev.Action = KeyPress
	}
	if m.Kitty != 0 {
		return encodeKitty(ev, m)
	}
	if ev.Action == KeyRelease {
		return nil
	}
	return encodeLegacy(ev, m)
}

// functional is how a key without text is told: CSI number ; mods final, where number 1 may be left away.
type functional struct {
	number int
	final  byte
}

func (k Key) functional() (functional, bool) {
	f, ok := map[Key]functional{
		KeyUp: {1, 'A'}, KeyDown: {1, 'B'}, KeyRight: {1, 'C'}, KeyLeft: {1, 'D'}, KeyHome: {1, 'H'}, KeyEnd: {1, 'F'},
		KeyInsert: {2, '~'}, KeyDelete: {3, '~'}, KeyPageUp: {5, '~'}, KeyPageDown: {6, '~'},
		KeyF1: {1, 'P'}, KeyF2: {1, 'Q'}, KeyF3: {13, '~'}, KeyF4: {1, 'S'},
		KeyF5: {15, '~'}, KeyF6: {17, '~'}, KeyF7: {18, '~'}, KeyF8: {19, '~'},
		KeyF9: {20, '~'}, KeyF10: {21, '~'}, KeyF11: {23, '~'}, KeyF12: {24, '~'}, KeyMenu: {29, '~'},
	}[k]
	return f, ok
}

// encodeLegacy speaks as xterm does, with modifyOtherKeys when that is on.
func encodeLegacy(ev KeyEvent, m Modes) []byte {
	if f, ok := ev.Key.functional(); ok {
		return legacyFunctional(ev.Key, f, ev.Mods, m)
	}
	switch ev.Key {
	case KeyEnter, KeyPadEnter, KeyTab, KeyEscape, KeyBackspace:
		return legacyControl(ev, m)
	}
	if ev.Key > unicode.MaxRune {
		return nil
	}
	if ev.Mods&(Ctrl|Alt) == 0 {
		return []byte(ev.Text)
	}
	if m.ModifyOtherKeys == 2 || m.ModifyOtherKeys == 1 && ev.Mods&Ctrl != 0 && !hasControl(ev.Key) {
		return otherKey(shifted(ev), ev.Mods)
	}
	var out []byte
	if ev.Mods&Alt != 0 {
		out = append(out, 0x1b)
	}
	if ev.Mods&Ctrl != 0 {
		c, ok := controlByte(ev.Key)
		if !ok {
			return append(out, string(shifted(ev))...)
		}
		return append(out, c)
	}
	if ev.Text != "" {
		return append(out, ev.Text...)
	}
	return append(out, string(shifted(ev))...)
}

// shifted is the character of the key with Shift taken into account.
func shifted(ev KeyEvent) rune {
	if r, n := utf8.DecodeRuneInString(ev.Text); n > 0 && n == len(ev.Text) && r != utf8.RuneError {
		return r
	}
	r := rune(ev.Key)
	if ev.Mods&Shift != 0 {
		if u := unicode.ToUpper(r); u != r {
			return u
		}
		if i := strings.IndexRune(plainKeys, r); i >= 0 {
			return rune(shiftedKeys[i])
		}
	}
	return r
}

// The pairs of the US layout: the toolkit names keys by it, and gives no text with Ctrl or Alt.
const (
	plainKeys   = "`1234567890-=[]\\;',./"
	shiftedKeys = "~!@#$%^&*()_+{}|:\"<>?"
)

func hasControl(k Key) bool {
	_, ok := controlByte(k)
	return ok
}

// controlByte is the control character that Ctrl makes of a key, as in xterm.
func controlByte(k Key) (byte, bool) {
	switch {
	case k >= 'a' && k <= 'z':
		return byte(k) - 'a' + 1, true
	case k >= 'A' && k <= 'Z':
		return byte(k) - 'A' + 1, true
	}
	switch k {
	case ' ', '@', '2':
		return 0, true
	case '[', '3':
		return 0x1b, true
	case '\\', '4':
		return 0x1c, true
	case ']', '5':
		return 0x1d, true
	case '^', '6', '~', '`':
		return 0x1e, true
	case '_', '7', '/', '-':
		return 0x1f, true
	case '8', '?':
		return 0x7f, true
	}
	return 0, false
}

func otherKey(r rune, mods Mods) []byte {
	return fmt.Appendf(nil, "\x1b[27;%d;%d~", mods&7+1, r)
}

func legacyFunctional(k Key, f functional, mods Mods, m Modes) []byte {
	mods &= 7
	if mods == 0 {
		switch {
		case k >= KeyF1 && k <= KeyF4:
			return []byte{0x1b, 'O', "PQRS"[k-KeyF1]}
		case f.final == '~':
			return fmt.Appendf(nil, "\x1b[%d~", f.number)
		case m.CursorKeys:
			return []byte{0x1b, 'O', f.final}
		}
		return []byte{0x1b, '[', f.final}
	}
	if k == KeyF3 {
		f = functional{1, 'R'}
	}
	return fmt.Appendf(nil, "\x1b[%d;%d%c", f.number, mods+1, f.final)
}

// legacyControl encodes Enter, Tab, Escape and Backspace.
func legacyControl(ev KeyEvent, m Modes) []byte {
	var b []byte
	switch ev.Key {
	case KeyTab:
		if ev.Mods&Shift != 0 && m.ModifyOtherKeys < 2 {
			b = []byte("\x1b[Z")
			if ev.Mods&Alt != 0 {
				return append([]byte{0x1b}, b...)
			}
			return b
		}
		b = []byte{'\t'}
	case KeyEscape:
		b = []byte{0x1b}
	case KeyBackspace:
		c := byte(0x7f)
		if m.BackspaceBS != (ev.Mods&Ctrl != 0) {
			c = 0x08
		}
		b = []byte{c}
	default:
		b = []byte{'\r'}
		if m.NewLine {
			b = []byte("\r\n")
		}
	}
	if mods := ev.Mods & 7; mods != 0 && (m.ModifyOtherKeys == 2 || m.ModifyOtherKeys == 1 && ev.Key != KeyBackspace && mods != Alt) {
		k := ev.Key
		if k == KeyPadEnter {
			k = KeyEnter
		}
		return otherKey(rune(k), mods)
	}
	if ev.Mods&Alt != 0 {
		b = append([]byte{0x1b}, b...)
	}
	return b
}
