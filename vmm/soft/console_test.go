package soft

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlainText(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain\n", "plain"},
		{"windows\r\n", "windows"},
		{"\x1b[1;31mred\x1b[0m\n", "red"},
		{"\x1b]0;title\atext\n", "text"},
		{"\x1b]0;title\x1b\\text\n", "text"},
		{"\x1bPdevice control\x1b\\text\n", "text"},
		{"\x1b(Bcharset\x1b=\n", "charset"},
		{"\x1b\x1b[2Jtwice\n", "twice"},
		{"bell\a null\x00 delete\x7f tab\t.\n", "bell null delete tab\t."},
		{"\u202ereordered \u009b31m\n", "???reordered ??31m"},
		{"\x1b[31\nnext line is whole\n", "|next line is whole"},
		{"\x1b]never ends\nnext\n", "|next"},
		{"not ended", "not ended"},
	}
	for _, test := range tests {
		c, err := newConsole(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		c.write([]byte(test.in))
		if got := strings.Join(c.last(10), "|"); got != test.want {
			t.Errorf("%q: %q, want %q", test.in, got, test.want)
		}
		c.close()
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("\x1b]0;title\x1b\\text\x1b[31mred\n"))
	c, err := newConsole(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c.write(b)
		for _, line := range c.last(keptLines) {
			if len(line) > maxConsole || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }) {
				t.Errorf("%q", line)
			}
		}
	})
}

func TestConsoleLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	c, err := newConsole(dir)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 100)
	for i := range 30_000 {
		c.write(fmt.Appendf(nil, "%s %d\n", line, i))
	}
	c.write(make([]byte, 10_000))
	c.write([]byte(strings.Repeat("y", 1<<20)))
	c.close()
	if lines := c.last(2); len(lines) != 2 || lines[0] != line+" 29999" || len(lines[1]) != maxConsole {
		t.Errorf("%.200q", lines)
	}
	if n := len(c.last(1_000_000)); n != keptLines {
		t.Errorf("%d lines kept", n)
	}
	var size int64
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > consoleLimit+2*maxConsole || size < consoleLimit/2 {
		t.Errorf("log takes %d bytes", size)
	}
	b, err := os.ReadFile(filepath.Join(dir, consoleFile))
	if err != nil || !strings.Contains(string(b), line+" 29999\n") {
		t.Errorf("the last line is not in the log, %v", err)
	}
}
