package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCutDetach(t *testing.T) {
	for in, want := range map[string]struct {
		before string
		detach bool
	}{
		"abc":              {"abc", false},
		"ab\x1dcd":         {"ab", true},
		"x\x1b[93;5uy":     {"x", true},
		"x\x1b[93;5:1uy":   {"x", true},
		"x\x1b[27;5;93~y":  {"x", true},
		"\x1b[93;6u":       {"\x1b[93;6u", false},
		"a\x1b[93;5ub\x1d": {"a", true},
		"":                 {"", false},
	} {
		before, detach := cutDetach([]byte(in))
		if string(before) != want.before || detach != want.detach {
			t.Errorf("%q: %q, %v", in, before, detach)
		}
	}
}

func TestModesAreUndone(t *testing.T) {
	for _, c := range []struct {
		name, in     string
		want, absent []string
	}{
		{"alternate screen, mouse, paste", "\x1b[?1049h\x1b[?1000;1006h\x1b[?2004h", []string{"\x1b[?1049l", "\x1b[?1000l", "\x1b[?1006l", "\x1b[?2004l"}, nil},
		{"left again", "\x1b[?1049hx\x1b[?1049l", nil, []string{"1049"}},
		{"hidden cursor", "\x1b[?25l", []string{"\x1b[?25h"}, nil},
		{"shown cursor", "\x1b[?25l\x1b[?25h", nil, []string{"?25"}},
		{"keyboard", "\x1b[>1u\x1b[>5u", []string{"\x1b[<2u"}, nil},
		{"keyboard, popped", "\x1b[>1u\x1b[<u", nil, []string{"\x1b[<"}},
		{"cut in two", "\x1b[?10|49h", []string{"\x1b[?1049l"}, nil},
		{"an endless sequence", "\x1b[?" + strings.Repeat("1;", 10000) + "h\x1b[?1049h", []string{"\x1b[?1049l"}, nil},
	} {
		var out bytes.Buffer
		m := &modeKeeper{out: &out}
		for _, part := range strings.Split(c.in, "|") {
			if _, err := m.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		out.Reset()
		m.reset()
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: no %q in %q", c.name, w, out.String())
			}
		}
		for _, a := range c.absent {
			if strings.Contains(out.String(), a) {
				t.Errorf("%s: %q in %q", c.name, a, out.String())
			}
		}
		out.Reset()
		m.reset()
		if _, err := m.Write([]byte("late")); err != nil || out.Len() != 0 {
			t.Errorf("%s: %q after the end", c.name, out.String())
		}
	}
}

func FuzzModeKeeper(f *testing.F) {
	f.Add([]byte("\x1b[?1049h\x1b[>1u\x1b[<99999999999u"))
	f.Fuzz(func(t *testing.T, p []byte) {
		var out bytes.Buffer
		m := &modeKeeper{out: &out}
		m.Write(p)
		if !bytes.Equal(out.Bytes(), p) {
			t.Fatal("the output was changed")
		}
		out.Reset()
		m.reset()
		if out.Len() > 4096 || len(m.set) > maxModes {
			t.Fatalf("%d bytes, %d modes", out.Len(), len(m.set))
		}
	})
}

func TestSplitRemote(t *testing.T) {
	for in, want := range map[string]remote{"a:b": {"a", "b"}, "a:": {"a", ""}, "a:/x:y": {"a", "/x:y"}} {
		if got, ok := splitRemote(in); !ok || got != want {
			t.Errorf("%s: %v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"a", "./a:b", "/x:y", ":x", ""} {
		if got, ok := splitRemote(in); ok {
			t.Errorf("%s: %v", in, got)
		}
	}
}
