package vt

import "testing"

func TestEncodeKey(t *testing.T) {
	legacy := Modes{}
	app := Modes{CursorKeys: true}
	other := Modes{ModifyOtherKeys: 2}
	kitty := Modes{Kitty: KittyDisambiguate}
	events := Modes{Kitty: KittyDisambiguate | KittyEventTypes}
	all := Modes{Kitty: KittyDisambiguate | KittyAllKeys | KittyText | KittyAlternateKeys}
	for _, c := range []struct {
		ev   KeyEvent
		m    Modes
		want string
	}{
		{KeyEvent{Key: 'a', Text: "a"}, legacy, "a"},
		{KeyEvent{Key: 'a', Text: "A", Mods: Shift}, legacy, "A"},
		{KeyEvent{Key: 'e', Text: "é"}, legacy, "é"},
		{KeyEvent{Key: 'a', Mods: Ctrl}, legacy, "\x01"},
		{KeyEvent{Key: 'c', Mods: Ctrl | Shift}, legacy, "\x03"},
		{KeyEvent{Key: ' ', Mods: Ctrl}, legacy, "\x00"},
		{KeyEvent{Key: '/', Mods: Ctrl}, legacy, "\x1f"},
		{KeyEvent{Key: '[', Mods: Ctrl}, legacy, "\x1b"},
		{KeyEvent{Key: 'x', Mods: Alt}, legacy, "\x1bx"},
		{KeyEvent{Key: 'x', Mods: Alt | Shift}, legacy, "\x1bX"},
		{KeyEvent{Key: '.', Mods: Alt | Shift}, legacy, "\x1b>"},
		{KeyEvent{Key: 'x', Mods: Alt | Ctrl}, legacy, "\x1b\x18"},
		{KeyEvent{Key: KeyEnter}, legacy, "\r"},
		{KeyEvent{Key: KeyEnter}, Modes{NewLine: true}, "\r\n"},
		{KeyEvent{Key: KeyEnter, Mods: Alt}, legacy, "\x1b\r"},
		{KeyEvent{Key: KeyTab}, legacy, "\t"},
		{KeyEvent{Key: KeyTab, Mods: Shift}, legacy, "\x1b[Z"},
		{KeyEvent{Key: KeyEscape}, legacy, "\x1b"},
		{KeyEvent{Key: KeyBackspace}, legacy, "\x7f"},
		{KeyEvent{Key: KeyBackspace, Mods: Ctrl}, legacy, "\x08"},
		{KeyEvent{Key: KeyBackspace, Mods: Alt}, legacy, "\x1b\x7f"},
		{KeyEvent{Key: KeyBackspace}, Modes{BackspaceBS: true}, "\x08"},
		{KeyEvent{Key: KeyUp}, legacy, "\x1b[A"},
		{KeyEvent{Key: KeyUp}, app, "\x1bOA"},
		{KeyEvent{Key: KeyLeft, Mods: Ctrl}, app, "\x1b[1;5D"},
		{KeyEvent{Key: KeyHome, Mods: Shift | Alt}, legacy, "\x1b[1;4H"},
		{KeyEvent{Key: KeyDelete}, legacy, "\x1b[3~"},
		{KeyEvent{Key: KeyPageUp, Mods: Ctrl}, legacy, "\x1b[5;5~"},
		{KeyEvent{Key: KeyF1}, legacy, "\x1bOP"},
		{KeyEvent{Key: KeyF3}, legacy, "\x1bOR"},
		{KeyEvent{Key: KeyF3, Mods: Shift}, legacy, "\x1b[1;2R"},
		{KeyEvent{Key: KeyF5}, legacy, "\x1b[15~"},
		{KeyEvent{Key: KeyF12, Mods: Ctrl}, legacy, "\x1b[24;5~"},
		{KeyEvent{Key: 'a', Text: "a", Action: KeyRelease}, legacy, ""},
		{KeyEvent{Key: KeyLeftShift}, legacy, ""},

		{KeyEvent{Key: KeyEnter, Mods: Shift}, other, "\x1b[27;2;13~"},
		{KeyEvent{Key: 'a', Mods: Ctrl}, other, "\x1b[27;5;97~"},
		{KeyEvent{Key: KeyEnter}, other, "\r"},

		{KeyEvent{Key: 'a', Text: "a"}, kitty, "a"},
		{KeyEvent{Key: 'a', Text: "A", Mods: Shift}, kitty, "A"},
		{KeyEvent{Key: 'c', Mods: Ctrl}, kitty, "\x1b[99;5u"},
		{KeyEvent{Key: 'x', Mods: Alt}, kitty, "\x1b[120;3u"},
		{KeyEvent{Key: KeyEnter}, kitty, "\r"},
		{KeyEvent{Key: KeyEnter, Mods: Shift}, kitty, "\x1b[13;2u"},
		{KeyEvent{Key: KeyTab, Mods: Shift}, kitty, "\x1b[9;2u"},
		{KeyEvent{Key: KeyTab}, kitty, "\t"},
		{KeyEvent{Key: KeyEscape}, kitty, "\x1b[27u"},
		{KeyEvent{Key: KeyBackspace}, kitty, "\x7f"},
		{KeyEvent{Key: KeyUp}, kitty, "\x1b[A"},
		{KeyEvent{Key: KeyUp, Mods: Ctrl}, kitty, "\x1b[1;5A"},
		{KeyEvent{Key: KeyF1}, kitty, "\x1b[P"},
		{KeyEvent{Key: KeyF3}, kitty, "\x1b[13~"},
		{KeyEvent{Key: KeyLeftShift, Mods: Shift}, kitty, ""},
		{KeyEvent{Key: 'a', Text: "a", Action: KeyRelease}, kitty, ""},

		{KeyEvent{Key: KeyUp, Action: KeyRelease}, events, "\x1b[1;1:3A"},
		{KeyEvent{Key: KeyUp, Action: KeyRepeat}, events, "\x1b[1;1:2A"},
		{KeyEvent{Key: KeyEnter, Action: KeyRelease}, events, ""},
		{KeyEvent{Key: KeyEscape, Action: KeyRelease}, events, "\x1b[27;1:3u"},
		{KeyEvent{Key: 'a', Text: "a", Action: KeyRepeat}, events, "a"},

		{KeyEvent{Key: 'a', Text: "a"}, all, "\x1b[97;;97u"},
		{KeyEvent{Key: 'a', Text: "A", Mods: Shift}, all, "\x1b[97:65;2;65u"},
		{KeyEvent{Key: KeyEnter}, all, "\x1b[13u"},
		{KeyEvent{Key: KeyLeftControl, Mods: Ctrl}, all, "\x1b[57442;5u"},
	} {
		if got := string(EncodeKey(c.ev, c.m)); got != c.want {
			t.Errorf("%+v in %+v: %q, want %q", c.ev, c.m, got, c.want)
		}
	}
}

func TestEncodeMouse(t *testing.T) {
	sgr := func(m MouseMode) Modes { return Modes{Mouse: m, MouseEncoding: EncodingSGR} }
	for _, c := range []struct {
		ev   MouseEvent
		m    Modes
		want string
	}{
		{MouseEvent{X: 4, Y: 9}, Modes{}, ""},
		{MouseEvent{X: 4, Y: 9}, sgr(MouseNormal), "\x1b[<0;5;10M"},
		{MouseEvent{X: 4, Y: 9, Action: MouseRelease, Button: ButtonRight}, sgr(MouseNormal), "\x1b[<2;5;10m"},
		{MouseEvent{Action: MouseMove}, sgr(MouseNormal), ""},
		{MouseEvent{Action: MouseMove}, sgr(MouseDrag), "\x1b[<32;1;1M"},
		{MouseEvent{Action: MouseMove, Button: ButtonNone}, sgr(MouseDrag), ""},
		{MouseEvent{Action: MouseMove, Button: ButtonNone}, sgr(MouseAny), "\x1b[<35;1;1M"},
		{MouseEvent{Mods: Shift | Alt | Ctrl}, sgr(MouseNormal), "\x1b[<28;1;1M"},
		{MouseEvent{Button: WheelUp}, sgr(MouseNormal), "\x1b[<64;1;1M"},
		{MouseEvent{X: -5, Y: -5}, sgr(MouseNormal), "\x1b[<0;1;1M"},
		{MouseEvent{}, Modes{Mouse: MouseNormal}, "\x1b[M !!"},
		{MouseEvent{Action: MouseRelease}, Modes{Mouse: MouseNormal}, "\x1b[M#!!"},
		{MouseEvent{X: 300}, Modes{Mouse: MouseNormal}, ""},
		{MouseEvent{X: 300}, Modes{Mouse: MouseNormal, MouseEncoding: EncodingUTF8}, "\x1b[M \u014d!"},
		{MouseEvent{X: 300}, Modes{Mouse: MouseNormal, MouseEncoding: EncodingURXVT}, "\x1b[32;301;1M"},
		{MouseEvent{Mods: Ctrl}, Modes{Mouse: MouseX10}, "\x1b[M !!"},
		{MouseEvent{Action: MouseRelease}, Modes{Mouse: MouseX10}, ""},
	} {
		if got := string(EncodeMouse(c.ev, c.m)); got != c.want {
			t.Errorf("%+v in %+v: %q, want %q", c.ev, c.m, got, c.want)
		}
	}
	if got := string(EncodeWheel(-3, 0, 0, 0, sgr(MouseNormal))); got != "\x1b[<64;1;1M" {
		t.Errorf("wheel: %q", got)
	}
	if got := string(EncodeWheel(2, 0, 0, 0, Modes{AltScreen: true, AltScroll: true, CursorKeys: true})); got != "\x1bOB\x1bOB" {
		t.Errorf("wheel on the alternate screen: %q", got)
	}
	if got := EncodeWheel(2, 0, 0, 0, Modes{AltScroll: true}); got != nil {
		t.Errorf("wheel on the main screen: %q", got)
	}
}

func TestEncodePaste(t *testing.T) {
	on := Modes{BracketedPaste: true}
	for _, c := range []struct {
		in   string
		m    Modes
		want string
	}{
		{"a\nb\r\nc\td", Modes{}, "a\rb\rc\td"},
		{"ls", on, "\x1b[200~ls\x1b[201~"},
		{"a\x1b[201~rm -rf /\n", on, "\x1b[200~arm -rf /\r\x1b[201~"},
		{"a\x1b\x1b[201~[201~b", on, "\x1b[200~a[201~b\x1b[201~"},
		{"a\u009b201~b", on, "\x1b[200~ab\x1b[201~"},
		{"x\x03\x04\x00\x7fy", Modes{}, "xy"},
		{"漢 é", Modes{}, "漢 é"},
	} {
		if got := string(EncodePaste(c.in, c.m)); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestModesFollowTheProgram(t *testing.T) {
	r := newRig(10, 5).send("\x1b[?1;66;1002;1006;1004;2004;1049h\x1b[>5u")
	want := Modes{CursorKeys: true, Keypad: true, BracketedPaste: true, Focus: true, AltScroll: true, AltScreen: true,
		Mouse: MouseDrag, MouseEncoding: EncodingSGR, Kitty: 5}
	if got := r.Modes(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	r.send("\x1b[?1;1002s\x1b[?1;1002l\x1b[?1;1002r")
	if got := r.Modes(); got != want {
		t.Errorf("after save and restore: %+v, want %+v", got, want)
	}
	if got := string(EncodeFocus(true, want)) + string(EncodeFocus(false, want)) + string(EncodeFocus(true, Modes{})); got != "\x1b[I\x1b[O" {
		t.Errorf("focus: %q", got)
	}
}
