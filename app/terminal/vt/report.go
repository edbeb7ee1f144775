package vt

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Name and version as XTVERSION and DA2 tell them.
const (
	versionReply = "\x1bP>|Capsid(1.0)\x1b\\"
	// VT220 with ANSI colour (ctlseqs, Primary DA).
	primaryDA = "\x1b[?62;22c"
	// A VT100-like terminal with a version past 277, from which on editors take SGR mouse reports for granted.
	secondaryDA = "\x1b[>1;300;0c"
	tertiaryDA  = "\x1bP!|43415053\x1b\\"
)

// reply queues an answer.
func (s *Screen) reply(text string) {
	if s.opt.Reply == nil {
		return
	}
	b := []byte(text)
	s.out.push(func() { s.opt.Reply(b) }, len(b))
}

func (s *Screen) replyf(format string, args ...any) { s.reply(fmt.Sprintf(format, args...)) }

func (s *Screen) reportAttributes(prefix byte) {
	switch prefix {
	case 0:
		s.reply(primaryDA)
	case '>':
		s.reply(secondaryDA)
	case '=':
		s.reply(tertiaryDA)
	}
}

func (s *Screen) reportVersion() { s.reply(versionReply) }

func (s *Screen) reportStatus(n int, private bool) {
	switch {
	case n == 5 && !private:
		s.reply("\x1b[0n")
	case n == 6:
		y := s.c.y
		if s.c.origin {
			y -= s.top
		}
		if private {
			s.replyf("\x1b[?%d;%d;1R", y+1, s.c.x+1)
		} else {
			s.replyf("\x1b[%d;%dR", y+1, s.c.x+1)
		}
	case n == 15 && private: // no printer
		s.reply("\x1b[?13n")
	case n == 996 && private:
		s.reportScheme()
	}
}

// reportScheme tells whether the colours are dark (1) or light (2).
func (s *Screen) reportScheme() {
	n := 2
	if s.pal.Dark() {
		n = 1
	}
	s.replyf("\x1b[?997;%dn", n)
}

func (s *Screen) reportMode(n int, private bool) {
	mark := ""
	if private {
		mark = "?"
	}
	s.replyf("\x1b[%s%d;%d$y", mark, n, s.modeState(n, private))
}

// reportSize is the in-band report of mode 2048.
func (s *Screen) reportSize() {
	s.replyf("\x1b[48;%d;%d;%d;%dt", s.rows, s.cols, s.rows*s.cellH, s.cols*s.cellW)
}

// maxTitles bounds the stack of XTWINOPS 22 and 23.
const maxTitles = 10

// windowOp answers sizes and keeps the stack of titles. The title is never told: that would put the program's bytes onto its own input.
func (s *Screen) windowOp(q *sequence) {
	switch q.raw(0, 0) {
	case 14:
		if s.cellW > 0 {
			s.replyf("\x1b[4;%d;%dt", s.rows*s.cellH, s.cols*s.cellW)
		}
	case 16:
		if s.cellW > 0 {
			s.replyf("\x1b[6;%d;%dt", s.cellH, s.cellW)
		}
	case 18:
		s.replyf("\x1b[8;%d;%dt", s.rows, s.cols)
	case 22:
		if q.raw(1, 0) != 1 && len(s.titles) < maxTitles {
			s.titles = append(s.titles, s.title)
		}
	case 23:
		if n := len(s.titles); q.raw(1, 0) != 1 && n > 0 {
			s.setTitle(s.titles[n-1])
			s.titles = s.titles[:n-1]
		}
	}
}

func (s *Screen) dcs(q *sequence, data []byte) {
	switch {
	case q.inter == '$' && q.final == 'q':
		s.reportSetting(string(data))
	case q.inter == '+' && q.final == 'q':
		s.reportCapabilities(string(data))
	}
}

// reportSetting is DECRQSS.
func (s *Screen) reportSetting(what string) {
	var v string
	switch what {
	case "m":
		v = s.sgrString() + "m"
	case "r":
		v = fmt.Sprintf("%d;%dr", s.top+1, s.bottom+1)
	case " q":
		n := int(s.cursorS)*2 + 2
		if s.cursorB {
			n--
		}
		v = fmt.Sprintf("%d q", n)
	case "\"p":
		v = "62;1\"p"
	case "\"q":
		v = "0\"q"
	default:
		s.reply("\x1bP0$r\x1b\\")
		return
	}
	s.reply("\x1bP1$r" + v + "\x1b\\")
}

// sgrString is the style in force, as parameters of SGR.
func (s *Screen) sgrString() string {
	st := s.c.style
	var b strings.Builder
	b.WriteString("0")
	for i, n := range []int{1, 2, 3, 5, 7, 8, 9, 53} {
		if st.Attr&(1<<i) != 0 {
			fmt.Fprintf(&b, ";%d", n)
		}
	}
	if st.Underline != NoUnderline {
		fmt.Fprintf(&b, ";4:%d", st.Underline)
	}
	for _, c := range []struct {
		n int
		c Color
	}{{38, st.FG}, {48, st.BG}, {58, st.UnderlineColor}} {
		switch c.c & colorKind {
		case colorIndexed:
			fmt.Fprintf(&b, ";%d:5:%d", c.n, uint8(c.c))
		case colorRGB:
			fmt.Fprintf(&b, ";%d:2::%d:%d:%d", c.n, uint8(c.c>>16), uint8(c.c>>8), uint8(c.c))
		}
	}
	return b.String()
}

// reportCapabilities is XTGETTCAP for the few names that programs ask for.
func (s *Screen) reportCapabilities(names string) {
	known := map[string]string{
		"TN": "xterm-256color", "name": "xterm-256color",
		"Co": "256", "colors": "256", "RGB": "8", "Tc": "",
	}
	for i, name := range strings.Split(names, ";") {
		if i == 8 {
			return
		}
		raw, err := hex.DecodeString(name)
		value, ok := known[string(raw)]
		if err != nil || !ok {
			s.reply("\x1bP0+r\x1b\\")
			continue
		}
		if value != "" {
			name += "=" + strings.ToUpper(hex.EncodeToString([]byte(value)))
		}
		s.reply("\x1bP1+r" + name + "\x1b\\")
	}
}
