package vt

import (
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRegionAtTheTopFeedsScrollback(t *testing.T) {
	r := newRig(10, 5)
	r.send("1\r\n2\r\n3\r\n4\r\n5", "\x1b[1;3r\x1b[3;1H\nx\r\ny", "\x1b[r")
	if got, want := r.everything(), "1|2|3|x|y|4|5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r = newRig(10, 5)
	r.send("1\r\n2\r\n3\r\n4\r\n5", "\x1b[2;3r\x1b[3;1H\nx")
	if got, want := r.everything(), "1|3|x|4|5"; got != want {
		t.Errorf("a region below the top: %q, want %q", got, want)
	}
	r = newRig(10, 5)
	r.send("\x1b[?1049h1\r\n2\r\n3\r\n4\r\n5\r\n6\x1b[?1049l")
	if got := r.everything(); got != "" {
		t.Errorf("the alternate screen left %q in the scrollback", got)
	}
}

func TestScrollbackIsBounded(t *testing.T) {
	s := New(Options{Cols: 20, Rows: 4, Scrollback: 100})
	for i := range 1000 {
		fmt.Fprintf(s, "line %d\r\n", i)
	}
	text := s.Text(s.All())
	if n := strings.Count(text, "\n"); n != 102 || !strings.HasPrefix(text, "line 897\n") {
		t.Errorf("%d lines, beginning %.20q", n, text)
	}
	var f Frame
	s.Snapshot(&f, 900)
	if f.Top != 900 || f.Lines[0].Text() != "line 900" || f.First != 897 || f.Cursor.Visible {
		t.Errorf("view at 900: top %d first %d %q", f.Top, f.First, f.Lines[0].Text())
	}
	fmt.Fprint(s, "\x1b[3J")
	if text := s.Text(s.All()); !strings.HasPrefix(text, "line 997\n") {
		t.Errorf("after ED 3: %q", text)
	}
}

func TestScrollbackMemory(t *testing.T) {
	s := New(Options{Cols: MaxCols, Rows: 50})
	var b strings.Builder
	for i := range MaxCols {
		fmt.Fprintf(&b, "\x1b[38;2;%d;%d;7me\u0301", i%256, i/256)
	}
	line := []byte(b.String())
	for range 3000 {
		s.Write(line)
	}
	if s.hist.bytes > maxHistoryBytes {
		t.Errorf("%d bytes", s.hist.bytes)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 4*maxHistoryBytes {
		t.Errorf("heap is %d MiB", m.HeapAlloc>>20)
	}
	runtime.KeepAlive(s)
}

func TestStringsAreBounded(t *testing.T) {
	r := newRig(10, 2)
	r.send("\x1b]0;" + strings.Repeat("x", 5<<20))
	if n := cap(r.p.str); n > 2*maxString {
		t.Errorf("a string of %d bytes is kept", n)
	}
	r.send("\x07ok\x1b]0;" + strings.Repeat("y", 40<<10) + "\x07")
	r.wait(t)
	if len(r.titles) != 1 || len(r.titles[0]) != maxTitle || r.screen() != "ok" {
		t.Errorf("%d titles, screen %q", len(r.titles), r.screen())
	}
}

func TestTitles(t *testing.T) {
	for in, want := range map[string]string{
		"0;plain":               "plain",
		"2;a;b;c":               "a;b;c",
		"0;✳ Claude Code":       "✳ Claude Code",
		"0;evil\x01\x1fname":    "evilname",
		"0;exe\u202etxt.doc":    "exetxt.doc",
		"0;two\nlines":          "twolines",
		"0;bad \xff\xfe utf":    "bad  utf",
		"0;c1 \u009b31m":        "c1 31m",
		"0;  spaces  ":          "spaces",
		"0;línea \u2028 aparte": "línea  aparte",
	} {
		for _, end := range []string{"\x07", "\x1b\\"} {
			r := newRig(10, 2).send("\x1b]" + in + end)
			if got := r.Title(); got != want {
				t.Errorf("%q: title %q, want %q", in, got, want)
			}
		}
	}
	r := newRig(10, 2).send("\x1b]0;one\x07\x1b[22;0t\x1b]0;two\x07\x1b[23;0t")
	if r.Title() != "one" {
		t.Errorf("title stack gave %q", r.Title())
	}
}

func TestNoticesAndClipboard(t *testing.T) {
	r := newRig(10, 2)
	r.send("\x1b]9;done\x07", "\x1b]9;4;1;50\x07", "\x1b]777;notify;T;B;C\x07", "\x07",
		"\x1b]52;c;"+base64.StdEncoding.EncodeToString([]byte("copied"))+"\x07",
		"\x1b]52;c;"+base64.StdEncoding.EncodeToString([]byte("too soon"))+"\x07",
		"\x1b]52;c;!!!\x07\x1b]52;c;?\x07\x1b]7;file:///etc\x07")
	r.wait(t)
	if got := fmt.Sprint(r.notes, r.bells, r.clips, r.replies); got != "[|done T|B;C] 1 [copied]" {
		t.Errorf("%s", got)
	}
}

func TestRepliesNeverBlock(t *testing.T) {
	block := make(chan struct{})
	s := New(Options{Reply: func([]byte) { <-block }})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Write([]byte(strings.Repeat("\x1b[c\x1b[6n\x1b]11;?\x07\x07", 200000)))
		s.Modes()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Write blocks when nobody takes the answers")
	}
	s.out.mu.Lock()
	if len(s.out.events) > maxQueued+1 {
		t.Errorf("%d events wait", len(s.out.events))
	}
	s.out.mu.Unlock()
	close(block)
}

func TestSynchronizedOutput(t *testing.T) {
	r := newRig(10, 2)
	r.send("old\x1b[?2026h\rnew")
	var f Frame
	r.Snapshot(&f, -1)
	if f.Lines[0].Text() != "old" || f.Held <= 0 || f.Held > time.Second {
		t.Errorf("while held: %q, %v", f.Lines[0].Text(), f.Held)
	}
	// Another update that begins at once must not hide that one was finished.
	r.send("\x1b[?2026l\x1b[?2026h\rxxx")
	r.Snapshot(&f, -1)
	if f.Lines[0].Text() != "new" || f.Held <= 0 {
		t.Errorf("between updates: %q, %v", f.Lines[0].Text(), f.Held)
	}
	time.Sleep(f.Held)
	r.Snapshot(&f, -1)
	if f.Lines[0].Text() != "xxx" || f.Held != 0 {
		t.Errorf("after the watchdog: %q, %v", f.Lines[0].Text(), f.Held)
	}
	r.send("\x1b[?2026h\ryyy")
	r.Screen.Resize(12, 2)
	r.Snapshot(&f, -1)
	if f.Lines[0].Text() != "yyy" {
		t.Errorf("after a resize: %q", f.Lines[0].Text())
	}
}

func TestSnapshotCopiesDirtyRowsOnly(t *testing.T) {
	r := newRig(10, 5)
	r.send("1\r\n2\r\n3")
	var f Frame
	r.Snapshot(&f, -1)
	if len(f.Dirty) != 5 {
		t.Errorf("first: %v", f.Dirty)
	}
	r.Snapshot(&f, -1)
	if len(f.Dirty) != 0 {
		t.Errorf("nothing happened: %v", f.Dirty)
	}
	r.send("\x1b[4;1Hx\x1b[31m\x1b[2;2H")
	r.Snapshot(&f, -1)
	if fmt.Sprint(f.Dirty) != "[3]" {
		t.Errorf("one row: %v", f.Dirty)
	}
	kept := f.Palette
	r.send("\x1b]4;1;#123456\x07")
	r.Snapshot(&f, -1)
	if f.Palette == kept || kept.Colors[1] == f.Palette.Colors[1] {
		t.Error("the palette of a frame was changed in place")
	}
}

func TestHyperlinks(t *testing.T) {
	r := newRig(40, 3)
	r.send("\x1b]8;id=1;https://a.example/x;y\x07link\x1b]8;;\x07 plain\r\nsee http://b.example/p?q=(1). end\r\n" +
		"\x1b]8;;https://c.example/\u202egpj\x07bad\x1b]8;;\x07")
	for _, c := range []struct {
		x, y int
		want string
	}{{0, 0, "https://a.example/x;y"}, {3, 0, "https://a.example/x;y"}, {5, 0, ""}, {6, 1, "http://b.example/p?q=(1)"}, {1, 1, ""}, {29, 1, ""}, {0, 2, ""}} {
		if got, _ := r.LinkAt(Position{c.y, c.x}); got != c.want {
			t.Errorf("%d,%d: %q, want %q", c.x, c.y, got, c.want)
		}
	}
	// A wrapped address is one address, with its letters' case.
	r = newRig(12, 4)
	r.send("go https://Example.com/Path now")
	if got, _ := r.LinkAt(Position{1, 2}); got != "https://Example.com/Path" {
		t.Errorf("wrapped: %q", got)
	}
	for i := range 3 * maxLinks {
		r.send(fmt.Sprintf("\x1b]8;;https://x/%d\x07", i))
	}
	if len(r.links.uris) != maxLinks {
		t.Errorf("%d links", len(r.links.uris))
	}
}

func TestSelectionText(t *testing.T) {
	r := newRig(10, 4)
	r.send("hello world and more\r\nsecond\r\n漢字x")
	for _, c := range []struct {
		sp   Span
		want string
	}{
		{Span{From: Position{0, 0}, To: Position{0, 4}}, "hello"},
		{Span{From: Position{0, 4}, To: Position{0, 0}}, "hello"},
		{Span{From: Position{0, 6}, To: Position{1, 4}}, "world and"},
		{Span{From: Position{1, 6}, To: Position{2, 2}}, "more\nsec"},
		{Span{From: Position{3, 1}, To: Position{3, 2}}, "漢字"},
		{Span{From: Position{-5, 0}, To: Position{0, 0}}, "h"},
		{Span{From: Position{0, 1}, To: Position{2, 2}, Block: true}, "el\n a\nec"},
		{r.All(), "hello world and more\nsecond\n漢字x"},
		{r.Word(Position{0, 1}), "hello"},
		{r.WholeLine(Position{1, 1}), "hello world and more"},
	} {
		if got := r.Text(c.sp); got != c.want {
			t.Errorf("%+v: %q, want %q", c.sp, got, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	r := newRig(10, 3)
	r.send("needle 1\r\nxxxxxxxNeedle\r\n", strings.Repeat("\r\n", 10), "NEEDLE")
	got := r.Find("needle", 10)
	if len(got) != 3 || got[0].From != (Position{0, 0}) || got[1].From != (Position{1, 7}) || got[1].To != (Position{2, 2}) {
		t.Errorf("%+v", got)
	}
	if got := r.Find("needle", 1); len(got) != 1 || got[0].From.Line < 10 {
		t.Errorf("%+v", got)
	}
	if got := r.Find("", 10); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	r := newRig(80, 24)
	var wg sync.WaitGroup
	run := func(f func(i int)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 200 {
				f(i)
			}
		}()
	}
	run(func(i int) {
		fmt.Fprintf(r, "\x1b[%dmline %d\r\n\x1b[6n\x1b[?2026h\x1b]0;t%d\x07\x1b[?2026l", i%50, i, i)
	})
	run(func(i int) { r.Screen.Resize(20+i%100, 5+i%30) })
	var f Frame
	run(func(i int) { r.Snapshot(&f, i%40-1) })
	run(func(int) { r.Text(r.All()) })
	run(func(int) { r.Find("line 1", 10); r.LinkAt(Position{3, 3}); r.Modes() })
	wg.Wait()
}
