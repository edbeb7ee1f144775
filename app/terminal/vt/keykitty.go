package vt

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// kittyCodes are the numbers of keys that the protocol gives private-use code points.
func (k Key) kittyCode() (int, bool) {
	switch k {
	case KeyPadEnter:
		return 57414, true
	case KeyCapsLock:
		return 57358, true
	case KeyPrintScreen:
		return 57361, true
	case KeyMenu:
		return 57363, true
	case KeyLeftShift, KeyLeftControl, KeyLeftAlt, KeyLeftSuper:
		return 57441 + int(k-KeyLeftShift), true
	case KeyRightShift, KeyRightControl, KeyRightAlt, KeyRightSuper:
		return 57447 + int(k-KeyRightShift), true
	}
	return 0, false
}

// encodeKitty speaks the kitty keyboard protocol with the flags of m.
func encodeKitty(ev KeyEvent, m Modes) []byte {
	all := m.Kitty&KittyAllKeys != 0
	events := m.Kitty&KittyEventTypes != 0
	if ev.Action == KeyRelease && !events {
		return nil
	}
	switch ev.Key {
	case KeyEnter, KeyTab, KeyBackspace:
		// These stay as they were without modifiers, so that a shell left behind by a crashed program can be used; then their release is not told either.
		if !all {
			if ev.Action == KeyRelease {
				return nil
			}
			if ev.Mods == 0 {
				return encodeLegacy(ev, Modes{NewLine: m.NewLine, BackspaceBS: m.BackspaceBS})
			}
		}
	}
	if f, ok := ev.Key.functional(); ok && ev.Key != KeyMenu {
		return kittyFunctional(ev, f, m, events)
	}
	if code, ok := ev.Key.kittyCode(); ok {
		if ev.Key >= KeyLeftShift && ev.Key <= KeyCapsLock && !all {
			return nil
		}
		if ev.Key == KeyPadEnter && !all && ev.Mods == 0 && ev.Action != KeyRelease {
			return []byte{'\r'}
		}
		return kittyU(strconv.Itoa(code), ev, "", events)
	}
	if ev.Key > unicode.MaxRune {
		return nil
	}
	if !all && ev.Mods&^Shift == 0 && ev.Key != KeyEscape && ev.Key > 27 && ev.Key != KeyBackspace {
		if ev.Action == KeyRelease {
			return nil
		}
		if ev.Text != "" {
			return []byte(ev.Text)
		}
	}
	return kittyU(kittyKeyCode(ev, m), ev, kittyText(ev, m), events)
}

func kittyKeyCode(ev KeyEvent, m Modes) string {
	base := unicode.ToLower(rune(ev.Key))
	code := strconv.Itoa(int(base))
	if m.Kitty&KittyAlternateKeys != 0 && ev.Mods&Shift != 0 {
		if r := shifted(ev); r != base && r > ' ' {
			code += ":" + strconv.Itoa(int(r))
		}
	}
	return code
}

func kittyText(ev KeyEvent, m Modes) string {
	if m.Kitty&KittyText == 0 || m.Kitty&KittyAllKeys == 0 || ev.Action == KeyRelease || ev.Mods&(Ctrl|Alt|Super) != 0 {
		return ""
	}
	var codes []string
	for _, r := range ev.Text {
		if !unicode.IsControl(r) {
			codes = append(codes, strconv.Itoa(int(r)))
		}
	}
	return strings.Join(codes, ":")
}

// kittyU is CSI code ; mods:event ; text u, with what is default at the end left away.
func kittyU(code string, ev KeyEvent, text string, events bool) []byte {
	out := "\x1b[" + code
	mods := kittyMods(ev, events)
	if mods != "" || text != "" {
		out += ";" + mods
	}
	if text != "" {
		out += ";" + text
	}
	return []byte(out + "u")
}

func kittyMods(ev KeyEvent, events bool) string {
	if events && ev.Action != KeyPress {
		return fmt.Sprintf("%d:%d", ev.Mods+1, ev.Action)
	}
	if ev.Mods == 0 {
		return ""
	}
	return strconv.Itoa(int(ev.Mods) + 1)
}

func kittyFunctional(ev KeyEvent, f functional, m Modes, events bool) []byte {
	mods := kittyMods(ev, events)
	switch {
	case mods != "":
		return fmt.Appendf(nil, "\x1b[%d;%s%c", f.number, mods, f.final)
	case f.final == '~':
		return fmt.Appendf(nil, "\x1b[%d~", f.number)
	case m.CursorKeys && f.final != 'P' && f.final != 'Q' && f.final != 'S':
		return []byte{0x1b, 'O', f.final}
	}
	return []byte{0x1b, '[', f.final}
}
