package terminal

import (
	"runtime"
	"unicode"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"capsid/app/terminal/vt"
)

// keyState follows the keyboard, since key events carry no modifiers. It is used on the UI goroutine alone.
type keyState struct {
	mods  fyne.KeyModifier
	last  fyne.KeyName // pressed last: the key that a character comes from
	fresh bool         // last has not been typed since it went down; when it is typed again, that is a repeat
}

// keyNames are the keys that type no character of their own.
func keyOf(name fyne.KeyName) (vt.Key, bool) {
	switch name {
	case fyne.KeyReturn:
		return vt.KeyEnter, true
	case fyne.KeyEnter:
		return vt.KeyPadEnter, true
	case fyne.KeyTab:
		return vt.KeyTab, true
	case fyne.KeyEscape:
		return vt.KeyEscape, true
	case fyne.KeyBackspace:
		return vt.KeyBackspace, true
	case fyne.KeyUp:
		return vt.KeyUp, true
	case fyne.KeyDown:
		return vt.KeyDown, true
	case fyne.KeyLeft:
		return vt.KeyLeft, true
	case fyne.KeyRight:
		return vt.KeyRight, true
	case fyne.KeyHome:
		return vt.KeyHome, true
	case fyne.KeyEnd:
		return vt.KeyEnd, true
	case fyne.KeyInsert:
		return vt.KeyInsert, true
	case fyne.KeyDelete:
		return vt.KeyDelete, true
	case fyne.KeyPageUp:
		return vt.KeyPageUp, true
	case fyne.KeyPageDown:
		return vt.KeyPageDown, true
	case desktop.KeyMenu:
		return vt.KeyMenu, true
	case desktop.KeyPrintScreen:
		return vt.KeyPrintScreen, true
	}
	if len(name) >= 2 && name[0] == 'F' {
		for i, f := range []fyne.KeyName{fyne.KeyF1, fyne.KeyF2, fyne.KeyF3, fyne.KeyF4, fyne.KeyF5, fyne.KeyF6,
			fyne.KeyF7, fyne.KeyF8, fyne.KeyF9, fyne.KeyF10, fyne.KeyF11, fyne.KeyF12} {
			if name == f {
				return vt.KeyF1 + vt.Key(i), true
			}
		}
	}
	return vt.KeyNone, false
}

// characterKey is the key that types a character, by its name.
func characterKey(name fyne.KeyName) (vt.Key, bool) {
	if name == fyne.KeySpace {
		return ' ', true
	}
	if len(name) != 1 {
		return vt.KeyNone, false
	}
	return vt.Key(unicode.ToLower(rune(name[0]))), true
}

// modifierKey tells which modifier a key is.
func modifierKey(name fyne.KeyName) (fyne.KeyModifier, vt.Key) {
	switch name {
	case desktop.KeyShiftLeft:
		return fyne.KeyModifierShift, vt.KeyLeftShift
	case desktop.KeyShiftRight:
		return fyne.KeyModifierShift, vt.KeyRightShift
	case desktop.KeyControlLeft:
		return fyne.KeyModifierControl, vt.KeyLeftControl
	case desktop.KeyControlRight:
		return fyne.KeyModifierControl, vt.KeyRightControl
	case desktop.KeyAltLeft:
		return fyne.KeyModifierAlt, vt.KeyLeftAlt
	case desktop.KeyAltRight:
		return fyne.KeyModifierAlt, vt.KeyRightAlt
	case desktop.KeySuperLeft:
		return fyne.KeyModifierSuper, vt.KeyLeftSuper
	case desktop.KeySuperRight:
		return fyne.KeyModifierSuper, vt.KeyRightSuper
	case desktop.KeyCapsLock:
		return 0, vt.KeyCapsLock
	}
	return 0, vt.KeyNone
}

func vtMods(m fyne.KeyModifier) (out vt.Mods) {
	for _, p := range []struct {
		from fyne.KeyModifier
		to   vt.Mods
	}{{fyne.KeyModifierShift, vt.Shift}, {fyne.KeyModifierAlt, vt.Alt}, {fyne.KeyModifierControl, vt.Ctrl}, {fyne.KeyModifierSuper, vt.Super}} {
		if m&p.from != 0 {
			out |= p.to
		}
	}
	return out
}

// press encodes a key and sends it.
func (t *Terminal) press(ev vt.KeyEvent) {
	t.send(vt.EncodeKey(ev, t.current().Modes()))
}

// KeyDown is called by Fyne.
func (t *Terminal) KeyDown(ev *fyne.KeyEvent) {
	t.keys.last, t.keys.fresh = ev.Name, true
	mod, key := modifierKey(ev.Name)
	t.keys.mods |= mod
	if key != vt.KeyNone {
		if t.current().Modes().Kitty&vt.KittyAllKeys != 0 {
			t.press(vt.KeyEvent{Key: key, Mods: vtMods(t.keys.mods)})
		}
		t.hoverAgain()
	}
}

// KeyUp is called by Fyne.
func (t *Terminal) KeyUp(ev *fyne.KeyEvent) {
	mod, key := modifierKey(ev.Name)
	t.keys.mods &^= mod
	if mod != 0 {
		t.hoverAgain()
	}
	if t.current().Modes().Kitty&vt.KittyEventTypes == 0 {
		return
	}
	ok := key != vt.KeyNone
	if !ok {
		key, ok = keyOf(ev.Name)
	}
	if !ok {
		key, ok = characterKey(ev.Name)
	}
	if ok {
		t.report(vt.EncodeKey(vt.KeyEvent{Key: key, Mods: vtMods(t.keys.mods), Action: vt.KeyRelease}, t.current().Modes()))
	}
}

// action says whether the key that is typed now was held down.
func (t *Terminal) action(name fyne.KeyName) vt.KeyAction {
	if name == t.keys.last && !t.keys.fresh {
		return vt.KeyRepeat
	}
	t.keys.fresh = false
	return vt.KeyPress
}

// TypedKey is called by Fyne for every key that is no shortcut; those that type a character come to TypedRune as well.
func (t *Terminal) TypedKey(ev *fyne.KeyEvent) {
	key, ok := keyOf(ev.Name)
	if !ok {
		return
	}
	if t.keys.mods == fyne.KeyModifierShift && t.scrollKey(ev.Name) {
		return
	}
	t.press(vt.KeyEvent{Key: key, Mods: vtMods(t.keys.mods), Action: t.action(ev.Name)})
}

// scrollKey moves the view for Shift with Page Up, Page Down, Home and End.
func (t *Terminal) scrollKey(name fyne.KeyName) bool {
	if t.current().Modes().AltScreen {
		return false
	}
	_, rows := t.Grid()
	switch name {
	case fyne.KeyPageUp:
		t.scrollBy(-max(rows-1, 1))
	case fyne.KeyPageDown:
		t.scrollBy(max(rows-1, 1))
	case fyne.KeyHome:
		t.scrollTo(0)
	case fyne.KeyEnd:
		t.scrollTo(-1)
	default:
		return false
	}
	return true
}

// TypedRune is called by Fyne with a character, layout and Shift and AltGr taken into account.
func (t *Terminal) TypedRune(r rune) {
	key, ok := characterKey(t.keys.last)
	if !ok || unicode.IsLetter(r) && unicode.ToLower(r) != rune(key) { // another layout than the name tells
		key = vt.Key(unicode.ToLower(r))
	}
	t.press(vt.KeyEvent{Key: key, Mods: vtMods(t.keys.mods) & vt.Shift, Text: string(r), Action: t.action(t.keys.last)})
}

// TypedShortcut is called by Fyne for keys with Ctrl, Alt or Super: what is not the terminal's own goes to the program.
func (t *Terminal) TypedShortcut(sc fyne.Shortcut) {
	name, mods := fyne.KeyUnknown, fyne.KeyModifier(0)
	switch sc := sc.(type) {
	case *desktop.CustomShortcut:
		name, mods = sc.KeyName, sc.Modifier
	case *fyne.ShortcutCopy:
		if sc.Secondary || runtime.GOOS == "darwin" {
			t.Copy()
			return
		}
		name, mods = fyne.KeyC, fyne.KeyModifierControl
	case *fyne.ShortcutPaste:
		if sc.Secondary || runtime.GOOS == "darwin" {
			t.PasteClipboard()
			return
		}
		name, mods = fyne.KeyV, fyne.KeyModifierControl
	case *fyne.ShortcutCut:
		name, mods = fyne.KeyX, fyne.KeyModifierControl
		if sc.Secondary {
			name, mods = fyne.KeyDelete, fyne.KeyModifierShift
		}
	case *fyne.ShortcutSelectAll:
		name, mods = fyne.KeyA, fyne.KeyModifierControl
	case *fyne.ShortcutUndo:
		name, mods = fyne.KeyZ, fyne.KeyModifierControl
	case *fyne.ShortcutRedo:
		name, mods = fyne.KeyY, fyne.KeyModifierControl
	default:
		return
	}
	if t.ownShortcut(name, mods) {
		return
	}
	key, ok := keyOf(name)
	if !ok {
		key, ok = characterKey(name)
	}
	if ok {
		t.press(vt.KeyEvent{Key: key, Mods: vtMods(mods), Action: t.action(name)})
	}
}

func (t *Terminal) ownShortcut(name fyne.KeyName, mods fyne.KeyModifier) bool {
	const ctrl, ctrlShift = fyne.KeyModifierControl, fyne.KeyModifierControl | fyne.KeyModifierShift
	switch {
	case mods == ctrlShift && name == fyne.KeyC:
		t.Copy()
	case mods == ctrlShift && name == fyne.KeyV:
		t.PasteClipboard()
	case mods == ctrlShift && name == fyne.KeyF:
		t.ShowSearch()
	case mods == ctrlShift && name == fyne.KeyA:
		t.SelectAll()
	case mods&^fyne.KeyModifierShift == ctrl && (name == fyne.KeyPlus || name == fyne.KeyEqual):
		t.Zoom(1)
	case mods == ctrl && name == fyne.KeyMinus:
		t.Zoom(-1)
	case mods == ctrl && name == fyne.Key0:
		t.SetFontSize(t.opt.FontSize)
	default:
		return false
	}
	return true
}

// Zoom makes the text larger or smaller by steps.
func (t *Terminal) Zoom(steps int) {
	t.SetFontSize(min(max(t.FontSize()+float32(steps), minFontSize), maxFontSize))
}

// Copy puts the selected text on the clipboard.
func (t *Terminal) Copy() {
	if text := t.SelectedText(); text != "" {
		fyne.CurrentApp().Clipboard().SetContent(text)
	}
}

// PasteClipboard pastes what is on the clipboard.
func (t *Terminal) PasteClipboard() {
	t.Paste(fyne.CurrentApp().Clipboard().Content())
}
