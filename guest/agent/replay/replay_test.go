package replay

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func replayed(size int, chunks ...string) string {
	l := NewLog(size)
	for _, c := range chunks {
		l.Write([]byte(c))
	}
	return string(l.Snapshot().Bytes())
}

func TestQuiet(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"text":                  {"hello\r\n", "hello\r\n"},
		"colour":                {"\x1b[38;2;1;2;3mx\x1b[0m", "\x1b[38;2;1;2;3mx\x1b[0m"},
		"colour with colons":    {"\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx"},
		"many parameters":       {"\x1b[" + strings.Repeat("1;", 100) + "1mx", "\x1b[" + strings.Repeat("1;", 100) + "1mx"},
		"cursor":                {"\x1b[2;3Hx\x1b7\x1b8", "\x1b[2;3Hx\x1b7\x1b8"},
		"wide text":             {"日本 ✳ é 👩‍👩‍👧", "日本 ✳ é 👩‍👩‍👧"},
		"title with 9c inside":  {"\x1b]0;✳ Claude\ax", "\x1b]0;✳ Claude\ax"},
		"link":                  {"\x1b]8;;http://a/?q\x1b\\x\x1b]8;;\x1b\\", "\x1b]8;;http://a/?q\x1b\\x\x1b]8;;\x1b\\"},
		"DA1":                   {"a\x1b[cb\x1b[0cc", "abc"},
		"DA2, DA3":              {"a\x1b[>cb\x1b[=0cc", "abc"},
		"DSR":                   {"a\x1b[6nb\x1b[?6nc\x1b[5n\x1b[?996n", "abc"},
		"DECRQM":                {"a\x1b[?2026$pb\x1b[4$pc", "abc"},
		"DECSTR stays":          {"\x1b[!p", "\x1b[!p"},
		"DECRQSS":               {"a\x1bP$qm\x1b\\b", "ab"},
		"XTGETTCAP":             {"a\x1bP+q544e\x1b\\b", "ab"},
		"sixel stays":           {"\x1bP0;1;0q#0\x1b\\", "\x1bP0;1;0q#0\x1b\\"},
		"XTVERSION":             {"a\x1b[>0qb\x1b[>q", "ab"},
		"cursor shape stays":    {"\x1b[4 q", "\x1b[4 q"},
		"colour question":       {"a\x1b]10;?\x1b\\b\x1b]11;?\ac\x1b]4;1;?\ad\x1b]12;#fff;?\a", "abcd"},
		"colour setting stays":  {"\x1b]11;#123456\a", "\x1b]11;#123456\a"},
		"kitty question":        {"a\x1b[?ub", "ab"},
		"kitty push stays":      {"\x1b[>1u\x1b[<u\x1b[=1;2u", "\x1b[>1u\x1b[<u\x1b[=1;2u"},
		"key options":           {"\x1b[>4;2m\x1b[?4m\x1b[>4n", "\x1b[>4;2m\x1b[>4n"},
		"ENQ, BEL":              {"a\x05b\ac", "abc"},
		"DECID":                 {"a\x1bZb", "ab"},
		"window reports":        {"a\x1b[18tb\x1b[14;2tc\x1b[22;0t", "abc\x1b[22;0t"},
		"clipboard":             {"a\x1b]52;c;?\ab\x1b]52;c;aGk=\ac", "abc"},
		"notification":          {"a\x1b]9;done\ab\x1b]777;notify;x;y\ac", "abc"},
		"graphics":              {"a\x1b_Ga=q,i=1;AAAA\x1b\\b", "ab"},
		"tmux passes through":   {"a\x1bPtmux;\x1b\x1b[c\x1b\\b", "ab"},
		"control inside CSI":    {"a\x1b[\ncb", "a\ncb"},
		"escape inside CSI":     {"a\x1b[12\x1b[cb", "ab"},
		"escape inside OSC":     {"a\x1b]0;x\x1b[cb", "ab"},
		"cancelled":             {"a\x1b]0;x\x18b\x1b[3\x1ac", "abc"},
		"C1 as UTF-8":           {"a\u009bcb", "acb"},
		"bare C1":               {"a\x9bcb", "acb"},
		"C1 in title":           {"a\x1b]0;x\u009c\u009bc\ab", "ab"},
		"resource question":     {"a\x1bP+Q41\x1b\\b", "ab"},
		"graphics attributes":   {"a\x1b[?1;1;0Sb\x1b[2S", "ab\x1b[2S"},
		"rest comes live":       {"a\x1b[6", "a\x1b[6"},
		"rest of title":         {"a\x1b]0;tit", "a\x1b]0;tit"},
		"rest of a character":   {"a\xe2\x9c", "a\xe2\x9c"},
		"checksum":              {"a\x1b[1;1;1;1;2;2*yb", "ab"},
		"status strings":        {"a\x1b[1$wb\x1b[1$uc", "abc"},
		"terminal parameters":   {"a\x1b[0xb", "ab"},
		"fill rectangle stays":  {"\x1b[65;1;1;2;2$x", "\x1b[65;1;1;2;2$x"},
		"unknown OSC":           {"a\x1b]1337;ReportCellSize\ab\x1b]99999;x\ac", "abc"},
		"modes stay":            {"\x1b[?1049h\x1b[?2004h\x1b[?1006h", "\x1b[?1049h\x1b[?2004h\x1b[?1006h"},
		"string that is a song": {"a\x1bXhidden\x1b\\b\x1b^hidden\x1b\\c", "abc"},
	} {
		if got := replayed(DefaultSize, c.in); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// filler is more than a log of 1000 bytes keeps.
var filler = strings.Repeat("line\r\n", 400)

func TestPrelude(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":              {"", ""},
		"modes":                {"\x1b[?2004h\x1b[?1000;1006h\x1b[?25l", "\x1b[?25l\x1b[?1000h\x1b[?1006h\x1b[?2004h"},
		"last wins":            {"\x1b[?2004h\x1b[?2004l", "\x1b[?2004l"},
		"alternate screen":     {"\x1b[?25l\x1b[?1049h", "\x1b[?1049h\x1b[?25l"},
		"left again":           {"\x1b[?1049h\x1b[?1049l", "\x1b[?1049l"},
		"held back picture":    {"\x1b[?2026h", ""},
		"kitty":                {"\x1b[>1u\x1b[>5u", "\x1b[>1u\x1b[>5u"},
		"kitty popped":         {"\x1b[>1u\x1b[>5u\x1b[<u\x1b[<9u\x1b[>3u", "\x1b[>3u"},
		"kitty set":            {"\x1b[>1u\x1b[=6;2u\x1b[=2;3u", "\x1b[>5u"},
		"kitty of both":        {"\x1b[>1u\x1b[?1049h\x1b[>7u", "\x1b[>1u\x1b[?1049h\x1b[>7u"},
		"kitty of the hidden":  {"\x1b[?1049h\x1b[>7u\x1b[?1049l\x1b[>1u", "\x1b[>1u\x1b[?1049l"},
		"title":                {"\x1b]0;one\a\x1b]2;✳ two\x1b\\", "\x1b]2;✳ two\x1b\\"},
		"pen":                  {"\x1b[31m\x1b[0m\x1b[1m\x1b[38;5;9m", "\x1b[1m\x1b[38;5;9m"},
		"colours":              {"\x1b]11;#111\a\x1b]10;#222\a\x1b]110\a", "\x1b]11;#111\a"},
		"region, shape, pad":   {"\x1b[2;9r\x1b[5 q\x1b=", "\x1b=\x1b[5 q\x1b[2;9r"},
		"charset":              {"\x1b(0\x0e", "\x1b(0\x0e"},
		"hyperlink":            {"\x1b]8;id=1;http://a/\a", "\x1b]8;id=1;http://a/\a"},
		"hyperlink over":       {"\x1b]8;;http://a/\a\x1b]8;;\a", ""},
		"insert mode":          {"\x1b[4h", "\x1b[4h"},
		"reset":                {"\x1b[?1049h\x1b[?2004h\x1b[1m\x1b]0;x\a\x1bc", ""},
		"soft reset":           {"\x1b[?1h\x1b[?2004h\x1b[1m\x1b[!p", "\x1b[?2004h"},
		"key options":          {"\x1b[>4;2m", "\x1b[>4;2m"},
		"questions are no set": {"\x1b]11;?\a\x1b[?u\x1b[c", ""},
	} {
		got := replayed(1000, c.in+"\r\n", filler)
		prelude, _, found := strings.Cut(got, "line\r\n")
		if !found || prelude != c.want {
			t.Errorf("%s: got %q, want %q", name, prelude, c.want)
		}
	}
}

func TestCut(t *testing.T) {
	// Sequences and characters are never cut, wherever the chunks end.
	all := strings.Repeat("\x1b[38;2;10;20;30m✳ 日本 \x1b]0;title\a\x1b[0m", 500)
	for size := 300; size < 340; size++ {
		l := NewLog(size)
		for i := 0; i < len(all); i += 7 {
			l.Write([]byte(all[i:min(i+7, len(all))]))
		}
		if n := len(l.buf); n > size+size/4+7 {
			t.Errorf("size %d: keeps %d bytes", size, n)
		}
		for _, lead := range []string{"\x1b[38;2", "✳", " ", "日", "本", "\x1b]0;title", "\x1b[0m"} {
			if strings.HasPrefix(string(l.buf), lead) {
				lead = ""
			}
			if lead == "" {
				goto whole
			}
		}
		t.Errorf("size %d: begins with %q", size, l.buf[:20])
	whole:
		if l.End() != int64(len(all)) {
			t.Errorf("size %d: end %d, want %d", size, l.End(), len(all))
		}
	}
}

func TestEndlessString(t *testing.T) {
	l := NewLog(1000)
	l.Write([]byte("before\x1b]52;c;"))
	for range 100 {
		l.Write(bytes.Repeat([]byte("A"), 100))
	}
	l.Write([]byte("AAAA\aafter"))
	if got := string(l.Snapshot().Bytes()); got != "after" {
		t.Errorf("got %q", got)
	}
	if b, _, ok := l.Since(l.End()-5, 100); !ok || string(b) != "after" {
		t.Errorf("got %q, %v", b, ok)
	}
}

func TestSince(t *testing.T) {
	l := NewLog(1000)
	l.Write([]byte("0123456789"))
	for _, c := range []struct {
		at   int64
		max  int
		want string
		ok   bool
	}{{0, 100, "0123456789", true}, {3, 4, "3456", true}, {10, 5, "", true}, {11, 5, "", false}} {
		b, to, ok := l.Since(c.at, c.max)
		if string(b) != c.want || ok != c.ok || ok && to != c.at+int64(len(b)) {
			t.Errorf("since %d: got %q, %d, %v", c.at, b, to, ok)
		}
	}
	l.Write([]byte(filler))
	if _, _, ok := l.Since(0, 100); ok {
		t.Error("what was cut away is still there")
	}
	if b, _, ok := l.Since(l.End()-6, 100); !ok || string(b) != "line\r\n" {
		t.Errorf("the end: got %q, %v", b, ok)
	}
}

func TestTitle(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"\x1b]0;✳ one\ax\x1b]2;two\x1b\\y": "two",
		"\x1b]2;unfinished":                "",
		"\x1b]0;old\a" + filler:            "old",
		"\x1b]0;" + strings.Repeat("x", 5000) + "\a": "",
	} {
		l := NewLog(10000)
		if strings.Contains(in, "line") {
			l = NewLog(1000)
		}
		l.Write([]byte(in))
		if got := l.Title(); got != want {
			t.Errorf("%.20q: got %.20q, want %q", in, got, want)
		}
	}
}

// asks finds what makes a terminal answer, by other means than the code under test.
var asks = regexp.MustCompile(`\x1b\[[<=>?]?[0-9;:]*c|\x1b\[\??[0-9;:]*n|\x1b\[\??[0-9;:]*\$p|\x1b\[>[0-9;:]*q|\x1b\[\?[0-9;:]*u|\x1bP[0-9;]*[$+]q|\x1bZ|[\x05]|\x1b\](4|1[0-9]);[^\x07\x1b]*\?|\x1b\]52|\x{9b}`)

func FuzzReplay(f *testing.F) {
	f.Add([]byte("a\x1b[cb"), uint16(100), uint8(3))
	f.Add([]byte("\x1b]0;✳ x\a\x1b[?1049h\x1b[>1u"+filler), uint16(200), uint8(50))
	f.Add([]byte("\x1b]52;c;"+filler+"\x1b\\\x1bP$qm\x1b\\"), uint16(64), uint8(9))
	f.Add([]byte("\x1b[\x1b[1;2$p\x9b\xc2\x9bc\x1bP+q\x1b"), uint16(64), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, size uint16, step uint8) {
		l := NewLog(int(size%4096) + 64)
		n := int(step) + 1
		for i := 0; i < len(in); i += n {
			l.Write(in[i:min(i+n, len(in))])
			if len(l.buf) > l.max+l.max/4+n {
				t.Fatalf("keeps %d bytes of %d", len(l.buf), l.max)
			}
		}
		if l.End() != int64(len(in)) {
			t.Fatalf("end %d of %d", l.End(), len(in))
		}
		if tail, _, ok := l.Since(l.End()-int64(len(l.buf)), len(in)); !ok || !bytes.HasSuffix(in, tail) {
			t.Fatalf("the log is not the end of what was written")
		}
		out := l.Snapshot().Bytes()
		// A sequence at the end that is not whole stays, and is no question yet.
		whole := 0
		for n := next(out); n > 0; n = next(out[whole:]) {
			whole += n
		}
		if m := asks.Find(out[:whole]); m != nil {
			t.Fatalf("asks: %q in %q", m, out)
		}
		if again := appendQuiet(nil, out); !bytes.Equal(again, out) {
			t.Fatalf("not stable: %q, then %q", out, again)
		}
		_ = l.Title()
	})
}
