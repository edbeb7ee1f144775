package vt

import "testing"

// Each case is a screen of 10×5 cells, what is sent, what is then seen, and where the cursor stands.
func TestConformance(t *testing.T) {
	const five = "1\r\n2\r\n3\r\n4\r\n5"
	for _, c := range []struct {
		name, in, want string
		x, y           int
	}{
		{"text", "hello", "hello", 5, 0},
		{"line feed keeps the column", "ab\ncd", "ab|  cd", 4, 1},
		{"new line mode", "\x1b[20hab\ncd", "ab|cd", 2, 1},
		{"wrap waits", "0123456789", "0123456789", 9, 0},
		{"wrap happens", "0123456789a", "0123456789|a", 1, 1},
		{"carriage return after the last column", "0123456789\rX", "X123456789", 1, 0},
		{"no autowrap", "\x1b[?7l0123456789abc", "012345678c", 9, 0},
		{"backspace at the wrap", "0123456789\b*", "01234567*9", 9, 0},
		{"scroll", five + "\r\n6", "2|3|4|5|6", 1, 4},
		{"cup", "\x1b[3;4HX", "||   X", 4, 2},
		{"cup beyond", "\x1b[99;99HX", "||||         X", 9, 4},
		{"cup huge", "\x1b[99999999999999999999;1HX", "||||X", 1, 4},
		{"cup zero", "\x1b[0;0HX", "X", 1, 0},
		{"cuu cud cuf cub", "\x1b[3;3H\x1b[A\x1b[2C\x1b[B\x1b[3DX", "|| X", 2, 2},
		{"cnl cpl cha", "\x1b[2;5H\x1b[EX\x1b[2FY\x1b[7GZ", "Y     Z||X", 7, 0},
		{"vpa hpa hpr vpr", "\x1b[2d\x1b[3`\x1b[2a\x1b[eX", "||    X", 5, 2},
		{"ed 0", five + "\x1b[3;1H\x1b[J", "1|2", 0, 2},
		{"ed 1", five + "\x1b[3;1H\x1b[1J", "|||4|5", 0, 2},
		{"ed 2", five + "\x1b[2J", "", 1, 4},
		{"el", "abcdef\x1b[4G\x1b[K", "abc", 3, 0},
		{"el 1", "abcdef\x1b[4G\x1b[1K", "    ef", 3, 0},
		{"el 2", "abcdef\x1b[4G\x1b[2K", "", 3, 0},
		{"ech", "abcdef\x1b[2G\x1b[3X", "a   ef", 1, 0},
		{"ech beyond", "abcdef\x1b[2G\x1b[99X", "a", 1, 0},
		{"ich", "abcdef\x1b[2G\x1b[2@", "a  bcdef", 1, 0},
		{"ich pushes out", "0123456789\x1b[1G\x1b[3@", "   0123456", 0, 0},
		{"dch", "abcdef\x1b[2G\x1b[2P", "adef", 1, 0},
		{"il", five + "\x1b[2H\x1b[2L", "1|||2|3", 0, 1},
		{"dl", five + "\x1b[2H\x1b[2M", "1|4|5", 0, 1},
		{"su", five + "\x1b[2S", "3|4|5", 1, 4},
		{"sd", five + "\x1b[2T", "||1|2|3", 1, 4},
		{"insert mode", "abc\x1b[1G\x1b[4hXY\x1b[4lZ", "XYZbc", 3, 0},
		{"rep", "ab\x1b[3b", "abbbb", 5, 0},
		{"rep wraps", "a\x1b[11b", "aaaaaaaaaa|aa", 2, 1},
		{"rep bounded", "a\x1b[65535b", "aaaaaaaaaa|aaaaaaaaaa|aaaaaaaaaa|aaaaaaaaaa|a", 1, 4},
		{"rep of nothing", "\x1b[5bx", "x", 1, 0},
		{"region", five + "\x1b[2;4r\x1b[4;1H\nX", "1|3|4|X|5", 1, 3},
		{"reverse index", five + "\x1b[2;4r\x1b[2;1H\x1bMX", "1|X|2|3|5", 1, 1},
		{"reverse index twice in a region", "\x1b[5;3r\x1bM\x1bMX", "X", 1, 0},
		{"below the region nothing scrolls", "\x1b[1;2r\x1b[5;1Hx\n\ny", "||||xy", 2, 4},
		{"origin", "\x1b[2;4r\x1b[?6hX\x1b[9;1HY", "|X||Y", 1, 3},
		{"il outside of the region", five + "\x1b[2;3r\x1b[5;1H\x1b[L", "1|2|3|4|5", 0, 4},
		{"tabs", "a\tb", "a       b", 9, 0},
		{"tab at the edge", "\t\t\tX", "         X", 9, 0},
		{"tab set and clear", "\x1b[3g\x1b[4G\x1bH\r\tX", "   X", 4, 0},
		{"cht cbt", "\x1b[2I\x1b[ZX", "        X", 9, 0},
		{"decaln", "\x1b#8", "EEEEEEEEEE|EEEEEEEEEE|EEEEEEEEEE|EEEEEEEEEE|EEEEEEEEEE", 0, 0},
		{"line drawing", "\x1b(0lqk\x1b(Bq", "┌─┐q", 4, 0},
		{"shift out", "\x1b)0q\x0eq\x0fq", "q─q", 3, 0},
		{"single shift", "\x1b*0\x1bNqq", "─q", 2, 0},
		{"uk", "\x1b(A#", "£", 1, 0},
		{"save and restore", "ab\x1b7\x1b[4;4HX\x1b8Y", "abY||||"[:3] + "|||   X", 3, 0},
		{"scosc", "ab\x1b[s\x1b[4;4H\x1b[uY", "abY", 3, 0},
		{"restore of nothing", "abc\x1b8X", "Xbc", 1, 0},
		{"alternate screen", "main\x1b[?1049halt\x1b[?1049l", "main", 4, 0},
		{"alternate screen is fresh", "\x1b[?1049hold\x1b[?1049l\x1b[?1049h", "", 0, 0},
		{"47 keeps", "\x1b[?47hold\x1b[?47l\x1b[?47h", "old", 3, 0},
		{"1047 clears on leaving", "\x1b[?1047hold\x1b[?1047l\x1b[?1047h", "", 3, 0},
		{"ris", "abc\x1b[31m\x1b[2;3r\x1bcX", "X", 1, 0},
		{"decstr", "\x1b[2;3r\x1b[?6h\x1b[4h\x1b[!p\x1b[HX", "X", 1, 0},
		{"nel", "ab\x1bEc", "ab|c", 1, 1},
		{"wide", "漢字", "漢字", 4, 0},
		{"wide does not fit", "012345678漢", "012345678|漢", 2, 1},
		{"wide overwritten on the left", "漢\rX", "X", 1, 0},
		{"wide overwritten on the right", "漢\x1b[2GX", " X", 2, 0},
		{"wide cut by dch", "a漢b\x1b[3G\x1b[P", "a b", 2, 0},
		{"combining", "e\u0301x", "e\u0301x", 2, 0},
		{"combining after a move", "e\x1b[2G\u0301x", "e\u0301x", 2, 0},
		{"combining on nothing", "\u0301x", "x", 1, 0},
		{"zwj family", "👨‍👩‍👧x", "👨‍👩‍👧x", 3, 0},
		{"flag", "🇩🇪x", "🇩🇪x", 3, 0},
		{"emoji presentation widens", "❤\ufe0fx", "❤\ufe0fx", 3, 0},
		{"skin tone", "👍🏽x", "👍🏽x", 3, 0},
		{"cluster at the wrap", "012345678👍🏽x", "012345678|👍🏽x", 3, 1},
		{"split utf-8", "\xe6\xbc", "", 0, 0},
		{"invalid utf-8", "a\xffb\xc3(", "a\ufffdb\ufffd(", 5, 0},
		{"c1 bytes are no controls", "a\x9b31mb", "a\ufffd31mb", 6, 0},
		{"c1 characters vanish", "a\u009b31mb", "a31mb", 5, 0},
		{"csi broken by utf-8", "\x1b[é", "é", 1, 0},
		{"csi without parameters for a mode", "\x1b[h\x1b[l\x1b[?hX", "X", 1, 0},
		{"csi cancelled", "\x1b[12\x18X", "X", 1, 0},
		{"csi with a control inside", "ab\x1b[2\rCX", "abX", 3, 0},
		{"csi ignored", "\x1b[1?2hX\x1b[>1;2$zY", "XY", 2, 0},
		{"too many parameters", "\x1b[1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;99HX", "X", 1, 0},
		{"dcs swallowed", "\x1bP1;2q#0;2;0;0;0~~\x1b\\X", "X", 1, 0},
		{"apc sos pm swallowed", "\x1b_Gi=1;AAAA\x1b\\\x1bXabc\x1b\\\x1b^def\x1b\\X", "X", 1, 0},
		{"osc with st in utf-8", "\x1b]0;✳ Claude\x07X", "X", 1, 0},
		{"osc cancelled", "\x1b]0;abc\x1aX", "X", 1, 0},
		{"reverse wrap", "\x1b[?45h0123456789a\b\b*", "012345678*|a", 9, 0},
		{"delete character is nothing", "a\x7fb", "ab", 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole, bytes := newRig(10, 5), newRig(10, 5)
			whole.send(c.in)
			for i := range len(c.in) { // the same, a byte at a time
				bytes.send(c.in[i : i+1])
			}
			for _, r := range []*rig{whole, bytes} {
				if got := r.screen(); got != c.want {
					t.Errorf("screen is %q, want %q", got, c.want)
				}
				if x, y := r.cursor(); x != c.x || y != c.y {
					t.Errorf("cursor at %d,%d, want %d,%d", x, y, c.x, c.y)
				}
			}
		})
	}
}

func TestSGR(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Style
	}{
		{"1;2;3;5;7;8;9;53", Style{Attr: Bold | Dim | Italic | Blink | Inverse | Hidden | Strike | Overline}},
		{"1;3;22", Style{Attr: Italic}},
		{"31;42", Style{FG: Indexed(1), BG: Indexed(2)}},
		{"91;102", Style{FG: Indexed(9), BG: Indexed(10)}},
		{"31;42;39;49", Style{}},
		{"38;5;200;48;5;17", Style{FG: Indexed(200), BG: Indexed(17)}},
		{"38;2;1;2;3;1", Style{FG: TrueColor(1, 2, 3), Attr: Bold}},
		{"38:2::1:2:3;1", Style{FG: TrueColor(1, 2, 3), Attr: Bold}},
		{"38:2:1:2:3;1", Style{FG: TrueColor(1, 2, 3), Attr: Bold}},
		{"38:5:9", Style{FG: Indexed(9)}},
		{"38;2;256;0;0;1", Style{Attr: Bold}},
		{"38;2;1", Style{}},
		{"38", Style{}},
		{"38;5", Style{}},
		{"38:2", Style{}},
		{"4", Style{Underline: SingleUnderline}},
		{"4:3", Style{Underline: CurlyUnderline}},
		{"4:3;58;5;9", Style{Underline: CurlyUnderline, UnderlineColor: Indexed(9)}},
		{"4:4;58:2::9:8:7", Style{Underline: DottedUnderline, UnderlineColor: TrueColor(9, 8, 7)}},
		{"4:5;58;2;1;2;3;59", Style{Underline: DashedUnderline}},
		{"4:0", Style{}},
		{"21", Style{Underline: DoubleUnderline}},
		{"4;24", Style{}},
		{"1;;3", Style{Attr: Italic}},
		{"1;0", Style{}},
		{"", Style{}},
		{"31;999;1", Style{FG: Indexed(1), Attr: Bold}},
	} {
		r := newRig(5, 2).send("\x1b[" + c.in + "mX")
		if got := r.at(0, 0).Style; got != c.want {
			t.Errorf("SGR %s: %+v, want %+v", c.in, got, c.want)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"\x1b[c", "\x1b[?62;22c"},
		{"\x1b[>c", "\x1b[>1;300;0c"},
		{"\x1b[=c", "\x1bP!|43415053\x1b\\"},
		{"\x1b[5n", "\x1b[0n"},
		{"\x1b[3;4H\x1b[6n", "\x1b[3;4R"},
		{"\x1b[2;4r\x1b[?6h\x1b[2;3H\x1b[6n", "\x1b[2;3R"},
		{"\x1b[?6n", "\x1b[?1;1;1R"},
		{"\x1b[?2026$p", "\x1b[?2026;2$y"},
		{"\x1b[?2026h\x1b[?2026$p", "\x1b[?2026;1$y"},
		{"\x1b[?2027$p", "\x1b[?2027;3$y"},
		{"\x1b[?25$p\x1b[?25l\x1b[?25$p", "\x1b[?25;1$y\x1b[?25;2$y"},
		{"\x1b[?31337$p\x1b[4$p", "\x1b[?31337;0$y\x1b[4;2$y"},
		{"\x1b[?1049$p\x1b[?1049h\x1b[?1049$p", "\x1b[?1049;2$y\x1b[?1049;1$y"},
		{"\x1b[>q", "\x1bP>|Capsid(1.0)\x1b\\"},
		{"\x1b[18t", "\x1b[8;5;10t"},
		{"\x1b]0;secret\x07\x1b[21t", ""},
		{"\x1b]11;?\x07", "\x1b]11;rgb:1616/1818/1d1d\x07"},
		{"\x1b]10;?\x1b\\", "\x1b]10;rgb:d8d8/dcdc/e4e4\x1b\\"},
		{"\x1b]10;#ff0000\x07\x1b]10;?\x07", "\x1b]10;rgb:ffff/0000/0000\x07"},
		{"\x1b]11;rgb:f/8/0\x07\x1b]11;?\x07\x1b]111\x07\x1b]11;?\x07", "\x1b]11;rgb:ffff/8888/0000\x07\x1b]11;rgb:1616/1818/1d1d\x07"},
		{"\x1b]4;1;rgb:12/34/56;2;?;1;?\x07", "\x1b]4;2;rgb:8c8c/c2c2/6565\x07\x1b]4;1;rgb:1212/3434/5656\x07"},
		{"\x1b]4;256;?;x;?\x07", ""},
		{"\x1b]52;c;?\x07", ""},
		{"\x1b[?u", "\x1b[?0u"},
		{"\x1b[>1u\x1b[?u\x1b[>31u\x1b[?u\x1b[<u\x1b[?u\x1b[<9u\x1b[?u", "\x1b[?1u\x1b[?31u\x1b[?1u\x1b[?0u"},
		{"\x1b[=5u\x1b[?u\x1b[=2;2u\x1b[?u\x1b[=1;3u\x1b[?u", "\x1b[?5u\x1b[?7u\x1b[?6u"},
		{"\x1b[>1u\x1b[?1049h\x1b[?u\x1b[>3u\x1b[?u\x1b[?1049l\x1b[?u", "\x1b[?0u\x1b[?3u\x1b[?1u"},
		{"\x1b[>1u\x1bc\x1b[?u", "\x1b[?0u"},
		{"\x1b[>4;2m\x1b[?4m\x1b[>4m\x1b[?4m", "\x1b[>4;2m\x1b[>4;0m"},
		{"\x1bP$qm\x1b\\", "\x1bP1$r0m\x1b\\"},
		{"\x1b[1;4:3;38;2;1;2;3;48;5;9m\x1bP$qm\x1b\\", "\x1bP1$r0;1;4:3;38:2::1:2:3;48:5:9m\x1b\\"},
		{"\x1b[2;4r\x1bP$qr\x1b\\", "\x1bP1$r2;4r\x1b\\"},
		{"\x1b[5 q\x1bP$q q\x1b\\", "\x1bP1$r5 q\x1b\\"},
		{"\x1bP$qz\x1b\\", "\x1bP0$r\x1b\\"},
		{"\x1bP+q544e;5a5a\x1b\\", "\x1bP1+r544e=787465726D2D323536636F6C6F72\x1b\\\x1bP0+r\x1b\\"},
		{"\x1b[?996n", "\x1b[?997;1n"},
	} {
		r := newRig(10, 5).send(c.in)
		r.wait(t)
		r.mu.Lock()
		if r.replies != c.want {
			t.Errorf("%q: replied %q, want %q", c.in, r.replies, c.want)
		}
		r.mu.Unlock()
	}
}
