package vt

import (
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzWrite sends anything, with resizes in between, and checks what must always hold.
func FuzzWrite(f *testing.F) {
	for _, s := range []string{
		"\x1b[h", "\x1b[5;3r\x1bM\x1bM", "\x1b[é", "\x1b[?1049h漢\x1b[P", "\x1b[2;4r\x1b[?6h\x1b[99S",
		"a\x1b[65535b", "\x1b]8;;http://x\x07\x1b]52;c;QQ==\x07", "\x1bP$qm\x1b\\\x1bP+q544e\x1b\\",
		"\x1b[?2026h\x1b[?2026l\x1b[>31u\x1b[<99u", "👨‍👩‍👧\r漢\x1b[4h字", "\x1b[3J\x1b#8\x1bc\x1b[!p",
		"\x1b[4:3;38:2::1:2:3;58:5:1mx", "0123456789\x1b[?7l漢\x1b[@\x1b[1K", "\x1b[s\x1b[u\x1b7\x1b8\x1b(0q",
	} {
		f.Add([]byte(s), uint8(7), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, cols, rows uint8) {
		start := time.Now()
		s := New(Options{Cols: 9, Rows: 4, Scrollback: 50, Reply: func([]byte) {}})
		var frame Frame
		half := len(in) / 2
		s.Write(in[:half])
		check(t, s, &frame)
		s.Resize(int(cols)%40+1, int(rows)%20+1)
		check(t, s, &frame)
		s.Write(in[half:])
		check(t, s, &frame)
		s.Resize(9, 4)
		check(t, s, &frame)
		s.Find("a", 10)
		s.LinkAt(Position{frame.Top, 3})
		s.Word(Position{frame.Top, 3})
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func check(t *testing.T, s *Screen, f *Frame) {
	t.Helper()
	if s.c.x < 0 || s.c.x >= s.cols || s.c.y < 0 || s.c.y >= s.rows {
		t.Fatalf("cursor at %d,%d of %d,%d", s.c.x, s.c.y, s.cols, s.rows)
	}
	if s.c.pending && s.c.x != s.cols-1 {
		t.Fatalf("a wrap is pending at column %d of %d", s.c.x, s.cols)
	}
	if s.top < 0 || s.top > s.bottom || s.bottom >= s.rows {
		t.Fatalf("margins %d..%d of %d", s.top, s.bottom, s.rows)
	}
	if len(s.main.rows) != s.rows || len(s.alt.rows) != s.rows || len(s.tabs) != s.cols {
		t.Fatalf("%d and %d rows, %d tabs", len(s.main.rows), len(s.alt.rows), len(s.tabs))
	}
	if s.hist.n > max(s.hist.max, 0) || s.hist.bytes < 0 {
		t.Fatalf("scrollback of %d lines, %d bytes", s.hist.n, s.hist.bytes)
	}
	seen := map[*row]bool{}
	for _, rows := range [][]*row{s.main.rows, s.alt.rows} {
		for _, r := range rows {
			if seen[r] || len(r.cells) != s.cols {
				t.Fatalf("a row twice, or of %d cells", len(r.cells))
			}
			seen[r] = true
		}
	}
	s.Snapshot(f, -1)
	for _, l := range f.Lines {
		for x := range l.Cells {
			c := &l.Cells[x]
			switch {
			case c.Width == 0 && (x == 0 || l.Cells[x-1].Width != 2):
				t.Fatalf("a right half alone at %d", x)
			case c.Width == 2 && (x+1 == len(l.Cells) || l.Cells[x+1].Width != 0):
				t.Fatalf("a left half alone at %d", x)
			case c.Width > 2 || len(c.Comb) > maxCluster || !utf8.ValidString(c.Text()):
				t.Fatalf("cell %+v", c)
			}
		}
	}
	if !utf8.ValidString(s.Text(s.All())) {
		t.Fatal("text is no UTF-8")
	}
}

// FuzzEncodePaste checks that nothing pasted can end the brackets or press a key.
func FuzzEncodePaste(f *testing.F) {
	f.Add("a\x1b[201~b")
	f.Add("\x1b\x1b[201~[201~\u009b201~")
	f.Fuzz(func(t *testing.T, text string) {
		out := string(EncodePaste(text, Modes{BracketedPaste: true}))
		body := out[len(pasteBegin) : len(out)-len(pasteEnd)]
		for _, r := range body {
			if r < 0x20 && r != '\r' && r != '\t' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q lets %q through", text, r)
			}
		}
	})
}
