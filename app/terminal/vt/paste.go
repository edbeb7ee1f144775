package vt

import (
	"strings"
	"unicode/utf8"
)

const (
	pasteBegin = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

// EncodePaste gives the bytes for pasted text. Control characters but for tabs and line ends are taken out, so text cannot end the brackets and
// then type: neither ESC [ 201 ~ nor its C1 form gets through. Line ends become what Enter sends.
func EncodePaste(text string, m Modes) []byte {
	var b strings.Builder
	b.Grow(len(text) + len(pasteBegin) + len(pasteEnd))
	if m.BracketedPaste {
		b.WriteString(pasteBegin)
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for _, r := range stripSequences(text) {
		switch {
		case r == '\n':
			b.WriteByte('\r')
		case r == '\t' || r == '\r':
			b.WriteRune(r)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
		case r == utf8.RuneError:
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	if m.BracketedPaste {
		b.WriteString(pasteEnd)
	}
	return []byte(b.String())
}

// stripSequences takes out whole bracket sequences, so that none of their visible rest is pasted.
func stripSequences(text string) string {
	for _, q := range []string{pasteBegin, pasteEnd, "\u009b200~", "\u009b201~"} {
		text = strings.ReplaceAll(text, q, "")
	}
	return text
}
