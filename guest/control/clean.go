package control

import (
	"strings"
	"unicode"
)

// cleanText makes text of the guest fit for a person's terminal or window: no control or format characters (which could
// move a cursor or turn the direction of writing round), at most n runes.
func cleanText(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if n == 0 {
			b.WriteString("…")
			break
		}
		n--
		if r == '\n' || r == '\t' {
			r = ' '
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func cleanList(in []string, max int) []string {
	if len(in) > max {
		in = in[:max]
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = cleanText(s, 1024)
	}
	return out
}

func (r SetupResult) clean() SetupResult {
	const most = 256
	out := SetupResult{
		Kernel:   cleanText(r.Kernel, 128),
		Lockdown: cleanList(r.Lockdown, most),
		Warnings: cleanList(r.Warnings, most),
		Versions: make(map[string]string, len(r.Versions)),
	}
	for k, v := range r.Versions {
		if len(out.Versions) == most {
			break
		}
		out.Versions[cleanText(k, 128)] = cleanText(v, 256)
	}
	if len(r.Steps) > most {
		r.Steps = r.Steps[:most]
	}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, StepTime{Name: cleanText(s.Name, 128), Duration: s.Duration})
	}
	return out
}

func (t TerminalInfo) clean() TerminalInfo {
	t.Name = cleanText(t.Name, 128)
	t.Title = cleanText(t.Title, 256)
	t.Command = cleanList(t.Command, 256)
	return t
}
