package vt

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkWrite(b *testing.B) {
	var colour strings.Builder
	for i := range 200 {
		fmt.Fprintf(&colour, "\x1b[38;2;%d;200;90m%s\x1b[0m %s\r\n", i, strings.Repeat("word ", 8), strings.Repeat("x", 30))
	}
	for name, text := range map[string]string{
		"plain":   strings.Repeat(strings.Repeat("a line of text ", 7)+"\r\n", 200),
		"colour":  colour.String(),
		"unicode": strings.Repeat(strings.Repeat("漢字 é ─│ ", 10)+"\r\n", 200),
	} {
		b.Run(name, func(b *testing.B) {
			s := New(Options{Cols: 120, Rows: 40})
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				s.Write([]byte(text))
			}
		})
	}
}

func BenchmarkResize(b *testing.B) {
	s := New(Options{Cols: 120, Rows: 40})
	for i := range 10000 {
		fmt.Fprintf(s, "%d %s\r\n", i, strings.Repeat("word ", i%40))
	}
	for i := 0; b.Loop(); i++ {
		s.Resize(100+i%2*40, 40)
	}
}

func BenchmarkFind(b *testing.B) {
	s := New(Options{Cols: 120, Rows: 40})
	for i := range 10000 {
		fmt.Fprintf(s, "%d %s\r\n", i, strings.Repeat("word ", i%40))
	}
	for b.Loop() {
		s.Find("nowhere", 10)
	}
}
