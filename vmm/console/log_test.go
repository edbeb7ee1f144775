package console

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
		l, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		l.Write([]byte(test.in))
		if got := strings.Join(l.Last(10), "|"); got != test.want {
			t.Errorf("%q: %q, want %q", test.in, got, test.want)
		}
		l.Close()
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte("\x1b]0;title\x1b\\text\x1b[31mred\n"))
	l, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l.Write(b)
		for _, line := range l.Last(Kept) {
			if len(line) > maxLine || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }) {
				t.Errorf("%q", line)
			}
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 100)
	for i := range 30_000 {
		l.Write(fmt.Appendf(nil, "%s %d\n", line, i))
	}
	l.Write(make([]byte, 10_000))
	l.Write([]byte(strings.Repeat("y", 1<<20)))
	l.Close()
	if lines := l.Last(2); len(lines) != 2 || lines[0] != line+" 29999" || len(lines[1]) != maxLine {
		t.Errorf("%.200q", lines)
	}
	if n := len(l.Last(1_000_000)); n != Kept {
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
	if size > fileLimit+2*maxLine || size < fileLimit/2 {
		t.Errorf("log takes %d bytes", size)
	}
	b, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil || !strings.Contains(string(b), line+" 29999\n") {
		t.Errorf("the last line is not in the log, %v", err)
	}
}

func TestCrash(t *testing.T) {
	numbered := func(from, to int) (lines []string) {
		for i := from; i < to; i++ {
			lines = append(lines, fmt.Sprint("line ", i))
		}
		return lines
	}
	panics := panicLine + ": VFS"
	tests := []struct {
		name     string
		in, want []string
		panicked bool
	}{
		{"short", numbered(0, 3), numbered(0, 3), false},
		{"long", numbered(0, 100), numbered(88, 100), false},
		{"panic", append(append(numbered(0, 20), panics), numbered(20, 60)...), append([]string{panics}, numbered(20, 31)...), true},
		{"second panic", []string{panics, "reboot", panics, "end"}, []string{panics, "end"}, true},
	}
	for _, test := range tests {
		l, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Crash(); got != "the console is empty" {
			t.Errorf("empty: %q", got)
		}
		for _, line := range test.in {
			fmt.Fprintf(l, "%s\r\n", line)
		}
		l.Close()
		if got, want := l.Crash(), "the console's last lines:\n  "+strings.Join(test.want, "\n  "); got != want {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
		if got := l.Panicked(); got != test.panicked {
			t.Errorf("%s: panicked %v", test.name, got)
		}
	}
}
