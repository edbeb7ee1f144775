package vt

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxTitle     = 512  // bytes
	maxNotice    = 2048 // bytes of a notification
	maxColorSets = 300  // colours named in one OSC 4
)

func (s *Screen) osc(data []byte, bell bool) {
	s.lastOK = false
	cmd, rest, _ := strings.Cut(string(data), ";")
	n, err := strconv.Atoi(cmd)
	if err != nil || len(cmd) > 4 {
		return
	}
	end := "\x1b\\"
	if bell {
		end = "\x07"
	}
	switch n {
	case 0, 2:
		s.setTitle(clean(rest, maxTitle))
	case 4:
		s.paletteColors(rest, end)
	case 104:
		s.resetColors(rest)
	case 10, 11, 12:
		s.dynamicColors(n, rest, end)
	case 110, 111, 112:
		s.changePalette(func(p *Palette) {
			*dynamic(p, n-100) = *dynamic(&s.base, n-100)
		})
	case 8:
		s.hyperlink(rest)
	case 9:
		s.notifyPlain(rest)
	case 777:
		if kind, text, _ := strings.Cut(rest, ";"); kind == "notify" {
			title, body, _ := strings.Cut(text, ";")
			s.notify(title, body)
		}
	case 52:
		s.clipboard(rest)
	}
	// OSC 7, the working directory, is a claim about a file system that is not ours; all others are unknown.
}

func (s *Screen) setTitle(title string) {
	s.title = title
	if s.opt.Title != nil {
		s.out.push(func() { s.opt.Title(title) }, len(title))
	}
}

// clean makes one line of what the program sent: valid UTF-8 without control and direction-changing characters, at most limit bytes.
func clean(text string, limit int) string {
	if len(text) > 4*limit {
		text = text[:4*limit]
	}
	var b strings.Builder
	for _, r := range text {
		if r == utf8.RuneError || unicode.IsControl(r) || bidi(r) || r == '\u2028' || r == '\u2029' {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// bidi says whether r reorders the text around it, by which one name can be made to look like another.
func bidi(r rune) bool {
	return r == 0x200e || r == 0x200f || r == 0x061c || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// notifyPlain is OSC 9. ConEmu's numbered commands (9;4 is a progress bar, which agents send all the time) are no messages.
func (s *Screen) notifyPlain(text string) {
	num, _, more := strings.Cut(text, ";")
	if n, err := strconv.Atoi(num); err == nil && n >= 1 && n <= 12 && (more || n == 4) {
		return
	}
	s.notify("", text)
}

func (s *Screen) notify(title, body string) {
	title, body = clean(title, maxTitle), clean(body, maxNotice)
	if s.opt.Notify == nil || title == "" && body == "" {
		return
	}
	s.out.push(func() { s.opt.Notify(title, body) }, len(title)+len(body))
}

// clipboard is OSC 52. Writing goes to the callback, at most twice a second; reading is never answered.
func (s *Screen) clipboard(rest string) {
	_, data, ok := strings.Cut(rest, ";")
	if !ok || data == "?" || s.opt.ClipboardWrite == nil {
		return
	}
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil || len(raw) == 0 || !utf8.Valid(raw) {
		return
	}
	now := time.Now()
	if now.Sub(s.clip) < time.Second/2 {
		return
	}
	s.clip = now
	text := strings.ReplaceAll(string(raw), "\x00", "")
	s.out.push(func() { s.opt.ClipboardWrite(text) }, len(text))
}

// changePalette gives the screen a new palette; frames keep the one that they have.
func (s *Screen) changePalette(f func(*Palette)) {
	p := *s.pal
	f(&p)
	s.pal = &p
}

func (s *Screen) paletteColors(rest, end string) {
	parts := strings.SplitN(rest, ";", 2*maxColorSets)
	p := *s.pal
	changed := false
	for i := 0; i+1 < len(parts); i += 2 {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 || n > 255 {
			continue
		}
		if parts[i+1] == "?" {
			s.replyf("\x1b]4;%d;%s%s", n, colorSpec(p.Colors[n]), end)
		} else if c, ok := parseColor(parts[i+1]); ok {
			p.Colors[n] = c
			changed = true
		}
	}
	if changed {
		s.pal = &p
	}
}

func (s *Screen) resetColors(rest string) {
	s.changePalette(func(p *Palette) {
		if rest == "" {
			p.Colors = s.base.Colors
			return
		}
		for _, part := range strings.SplitN(rest, ";", maxColorSets) {
			if n, err := strconv.Atoi(part); err == nil && n >= 0 && n <= 255 {
				p.Colors[n] = s.base.Colors[n]
			}
		}
	})
}

func dynamic(p *Palette, n int) *RGB {
	switch n {
	case 10:
		return &p.Foreground
	case 11:
		return &p.Background
	default:
		return &p.Cursor
	}
}

// dynamicColors sets or tells foreground (10), background (11) and cursor (12); further values go to the next number.
func (s *Screen) dynamicColors(n int, rest, end string) {
	for _, spec := range strings.SplitN(rest, ";", 4) {
		if n > 12 {
			return
		}
		if spec == "?" {
			s.replyf("\x1b]%d;%s%s", n, colorSpec(*dynamic(s.pal, n)), end)
		} else if c, ok := parseColor(spec); ok {
			s.changePalette(func(p *Palette) { *dynamic(p, n) = c })
		}
		n++
	}
}

func colorSpec(c RGB) string {
	const hex = "0123456789abcdef"
	b := []byte("rgb:")
	for i, v := range []uint8{c.R, c.G, c.B} {
		if i > 0 {
			b = append(b, '/')
		}
		h, l := hex[v>>4], hex[v&15]
		b = append(b, h, l, h, l)
	}
	return string(b)
}

// parseColor reads rgb:h/h/h with one to four digits each, #rgb, #rrggbb, #rrrgggbbb and #rrrrggggbbbb (XParseColor).
func parseColor(spec string) (RGB, bool) {
	var parts []string
	if v, ok := strings.CutPrefix(spec, "rgb:"); ok {
		parts = strings.Split(v, "/")
	} else if v, ok := strings.CutPrefix(spec, "#"); ok && len(v)%3 == 0 {
		n := len(v) / 3
		parts = []string{v[:n], v[n : 2*n], v[2*n:]}
	}
	if len(parts) != 3 {
		return RGB{}, false
	}
	var c [3]uint8
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 16, 16)
		if err != nil || len(p) > 4 {
			return RGB{}, false
		}
		c[i] = uint8(v * 255 / (1<<(4*len(p)) - 1))
	}
	return RGB{c[0], c[1], c[2]}, true
}
