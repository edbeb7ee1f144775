package ledger

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a row's texts, bytes.
const (
	maxURL    = 2048
	maxHost   = 253
	maxMethod = 32
	maxClaim  = 64
	maxRule   = 300
	maxReason = 512
)

func clean(e *Entry) {
	e.Process = bounded(e.Process, maxClaim)
	e.Method = bounded(e.Method, maxMethod)
	e.URL = bounded(e.URL, maxURL)
	e.Host = bounded(e.Host, maxHost)
	e.Rule = bounded(e.Rule, maxRule)
	e.Source = bounded(e.Source, maxRule)
	e.Reason = bounded(e.Reason, maxReason)
}

// bounded cuts s at n bytes, on a rune, and replaces what a terminal or a window would act on: control characters, and
// the marks that change the direction of text.
func bounded(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return utf8.RuneError
		}
		return r
	}, s)
}
