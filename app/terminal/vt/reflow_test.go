package vt

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestReflow(t *testing.T) {
	for _, c := range []struct {
		name       string
		cols, rows int
		in         string
		to         [][2]int
		screen     string
		all        string
		x, y       int
	}{
		{"narrower", 10, 4, "abcdefgh\r\n$ ", [][2]int{{4, 4}}, "abcd|efgh|$", "abcdefgh|$", 2, 2},
		{"there and back", 10, 4, "abcdefghij\r\n$ ls", [][2]int{{4, 4}, {10, 4}}, "abcdefghij|$ ls", "abcdefghij|$ ls", 4, 1},
		{"wider joins", 4, 4, "abcdefgh", [][2]int{{10, 4}}, "abcdefgh", "abcdefgh", 8, 0},
		{"cursor inside of a line", 10, 4, "abcdefgh\x1b[3D", [][2]int{{4, 4}}, "abcd|efgh", "abcdefgh", 1, 1},
		{"pending wrap", 4, 4, "abcd", [][2]int{{8, 4}}, "abcd", "abcd", 4, 0},
		{"to pending wrap", 8, 4, "abcd", [][2]int{{4, 4}}, "abcd", "abcd", 3, 0},
		{"hard breaks stay", 4, 4, "abcd\r\nef", [][2]int{{8, 4}}, "abcd|ef", "abcd|ef", 2, 1},
		{"overflow goes to the scrollback", 8, 2, "abcdefgh\r\n$", [][2]int{{4, 2}}, "efgh|$", "abcdefgh|$", 1, 1},
		{"scrollback comes back", 4, 2, "abcdefgh\r\n$", [][2]int{{8, 2}}, "abcdefgh|$", "abcdefgh|$", 1, 1},
		{"wide does not split", 6, 3, "ab漢字", [][2]int{{5, 3}}, "ab漢|字", "ab漢字", 2, 1},
		{"wide and back", 6, 3, "ab漢字", [][2]int{{3, 3}, {6, 3}}, "ab漢字", "ab漢字", 5, 0},
		{"wide in one column", 4, 3, "漢x", [][2]int{{1, 5}}, "||x", "  x", 0, 2},
		{"height shrinks from below first", 4, 4, "1\r\n2", [][2]int{{4, 2}}, "1|2", "1|2", 1, 1},
		{"height shrinks into the scrollback", 4, 4, "1\r\n2\r\n3\r\n4", [][2]int{{4, 2}}, "3|4", "1|2|3|4", 1, 1},
		{"height grows from the scrollback", 4, 2, "1\r\n2\r\n3\r\n4", [][2]int{{4, 4}}, "1|2|3|4", "1|2|3|4", 1, 3},
		{"height grows below a cleared screen", 4, 2, "1\r\n2\r\n3\r\n4\x1b[H\x1b[2J$", [][2]int{{4, 4}}, "$", "1|2|$", 1, 0},
		{"alternate screen is cut", 10, 3, "main\x1b[?1049h\x1b[Habcdefgh", [][2]int{{4, 3}}, "abcd", "abcd", 3, 0},
		{"main screen behind the alternate", 10, 3, "abcdefgh\x1b[?1049hx", [][2]int{{4, 3}, {10, 3}, {5, 3}}, "", "", -1, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(c.cols, c.rows).send(c.in)
			for _, size := range c.to {
				r.Screen.Resize(size[0], size[1])
			}
			if c.x < 0 {
				r.send("\x1b[?1049l")
				c.screen, c.all, c.x, c.y = "abcde|fgh", "abcdefgh", 3, 1
			}
			if got := r.screen(); got != c.screen {
				t.Errorf("screen %q, want %q", got, c.screen)
			}
			if got := r.everything(); got != c.all {
				t.Errorf("everything %q, want %q", got, c.all)
			}
			if x, y := r.cursor(); x != c.x || y != c.y {
				t.Errorf("cursor %d,%d, want %d,%d", x, y, c.x, c.y)
			}
		})
	}
}

// A program that draws at the bottom and erases by going up must find its own lines after the window changed: the text that is kept is what was sent, whatever sizes were passed through.
func TestReflowKeepsText(t *testing.T) {
	r := newRig(80, 24)
	var want []string
	for i := range 500 {
		line := fmt.Sprintf("%d ", i) + strings.Repeat("word 漢字 ", i%40)
		want = append(want, strings.TrimRight(line, " "))
		r.send(line, "\r\n")
	}
	for i := range 60 {
		r.Screen.Resize(20+i*7%120, 2+i*5%50)
	}
	if got := strings.Split(strings.TrimRight(r.Text(r.All()), "\n"), "\n"); len(got) != len(want) {
		t.Errorf("%d lines, want %d", len(got), len(want))
	} else {
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("line %d: %q, want %q", i, got[i], want[i])
			}
		}
	}
}

func TestReflowIsQuick(t *testing.T) {
	s := New(Options{Cols: 120, Rows: 40})
	s.Write([]byte(strings.Repeat("x", 120*12000))) // one line of the whole scrollback
	start := time.Now()
	s.Resize(80, 40)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}
