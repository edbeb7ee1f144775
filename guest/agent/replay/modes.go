package replay

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bounds on what is remembered of output that was cut away.
const (
	maxTitle  = 1024
	maxModes  = 256
	maxPen    = 64 // SGR sequences since the last reset
	maxColors = 300
	maxKitty  = 16 // depth of a keyboard stack
	maxKept   = 512
)

// modes is the effect of output on a terminal, as far as it outlives the cells that were written.
type modes struct {
	private map[int]bool // DECSET and DECRST
	ansi    map[int]bool // SM and RM
	kitty   [2][]int     // keyboard flags, pushed, of the main and the alternate screen; the first is the bottom
	keys    map[int]string
	pen     []string // SGR sequences
	colors  map[string]string
	link    string // OSC 8 in force
	title   string
	charset map[byte]string
	shift   byte // SO or SI
	keypad  byte // '=' application, '>' normal
	cursor  string
	region  string
}

func (m *modes) apply(raw []byte) {
	if len(raw) == 1 && (raw[0] == 0x0e || raw[0] == 0x0f) {
		m.shift = raw[0]
		return
	}
	if raw[0] != esc {
		return
	}
	s, whole := split(raw)
	if !whole {
		return
	}
	switch s.kind {
	case '[':
		m.applyCSI(s, raw)
	case ']':
		m.applyOSC(s, raw)
	case 1:
		m.applyEscape(s, raw)
	}
}

func (m *modes) applyEscape(s sequence, raw []byte) {
	switch {
	case s.inter == "" && s.final == 'c': // RIS
		*m = modes{}
	case s.inter == "" && (s.final == '=' || s.final == '>'):
		m.keypad = s.final
	case len(s.inter) == 1 && strings.Contains("()*+", s.inter):
		put(&m.charset, s.inter[0], string(raw), 4)
	}
}

func (m *modes) applyCSI(s sequence, raw []byte) {
	switch {
	case s.inter == "" && (s.final == 'h' || s.final == 'l') && (s.prefix == '?' || s.prefix == 0):
		for _, p := range strings.Split(s.params, ";") {
			one := sequence{params: p}
			n := one.number(0, -1)
			if n < 0 {
				continue
			}
			set := &m.ansi
			if s.prefix == '?' {
				set = &m.private
			}
			put(set, n, s.final == 'h', maxModes)
		}
	case s.prefix == 0 && s.inter == "" && s.final == 'm':
		if p := s.params; p == "" || p == "0" {
			m.pen = nil
		} else if len(raw) <= maxKept {
			if strings.HasPrefix(p, "0;") {
				m.pen = nil
			}
			m.pen = append(m.pen, string(raw))
			if len(m.pen) > maxPen {
				m.pen = slices.Delete(m.pen, 0, 1)
			}
		}
	case s.prefix == 0 && s.inter == "" && s.final == 'r':
		m.region = kept(raw)
	case s.inter == " " && s.final == 'q':
		m.cursor = kept(raw)
	case s.inter == "!" && s.final == 'p': // DECSTR
		m.soft()
	case s.final == 'u' && s.inter == "" && s.prefix != 0 && s.prefix != '?':
		m.applyKitty(s)
	case s.prefix == '>' && s.inter == "" && (s.final == 'm' || s.final == 'n'):
		put(&m.keys, s.number(0, -1), kept(raw), 16)
	}
}

// applyKitty follows the stack of keyboard flags: https://sw.kovidgoyal.net/kitty/keyboard-protocol/#progressive-enhancement
func (m *modes) applyKitty(s sequence) {
	stack := &m.kitty[m.screen()]
	switch s.prefix {
	case '>':
		*stack = append(*stack, s.number(0, 0))
		if len(*stack) > maxKitty {
			*stack = slices.Delete(*stack, 0, 1)
		}
	case '<':
		n := min(max(s.number(0, 1), 1), len(*stack))
		*stack = (*stack)[:len(*stack)-n]
	case '=':
		if len(*stack) == 0 {
			*stack = append(*stack, 0)
		}
		top := &(*stack)[len(*stack)-1]
		switch flags := s.number(0, 0); s.number(1, 1) {
		case 1:
			*top = flags
		case 2:
			*top |= flags
		case 3:
			*top &^= flags
		}
	}
}

// screen is 1 while the alternate screen is shown.
func (m *modes) screen() int {
	if m.private[1049] || m.private[1047] || m.private[47] {
		return 1
	}
	return 0
}

// soft is what DECSTR resets, as in xterm.
func (m *modes) soft() {
	m.pen, m.charset, m.region, m.shift, m.keypad = nil, nil, "", 0, 0
	for _, n := range []int{1, 6, 7, 25} {
		delete(m.private, n)
	}
	delete(m.ansi, 4)
}

func (m *modes) applyOSC(s sequence, raw []byte) {
	if hasC1(s.data) {
		return // terminals do not agree on where it ends
	}
	number, rest, _ := strings.Cut(string(s.data[:min(len(s.data), 2*maxTitle)]), ";")
	switch number {
	case "0", "2":
		if len(rest) <= maxTitle {
			m.title = rest
		}
	case "8":
		m.link = ""
		if _, uri, _ := strings.Cut(rest, ";"); uri != "" {
			m.link = kept(raw)
		}
	case "4", "10", "11", "12":
		if strings.Contains(rest, "?") || len(raw) > maxKept {
			return
		}
		key := number
		if number == "4" {
			index, _, _ := strings.Cut(rest, ";")
			key += ";" + index
		}
		put(&m.colors, key, string(raw), maxColors)
	case "104":
		maps.DeleteFunc(m.colors, func(k, _ string) bool { return strings.HasPrefix(k, "4;") })
	case "110", "111", "112":
		delete(m.colors, number[1:])
	}
}

// prelude is what gives a fresh terminal these modes.
func (m *modes) prelude() []byte {
	var b strings.Builder
	if m.title != "" {
		fmt.Fprintf(&b, "\x1b]2;%s\x1b\\", m.title)
	}
	for _, k := range slices.Sorted(maps.Keys(m.colors)) {
		b.WriteString(m.colors[k])
	}
	kitty := func(stack []int) {
		for _, flags := range stack {
			fmt.Fprintf(&b, "\x1b[>%du", flags)
		}
	}
	// Each screen has its own stack, so the main one's is pushed before the alternate one is shown.
	kitty(m.kitty[0])
	modeList(&b, "?", m.private, func(n int) bool { return n == 47 || n == 1047 || n == 1049 })
	if m.screen() == 1 {
		kitty(m.kitty[1])
	}
	modeList(&b, "?", m.private, func(n int) bool {
		switch n {
		case 47, 1047, 1049: // done
			return false
		case 2, 3, 1048, 2026: // VT52, clearing by width, the saved cursor; and holding back the picture, whose end may be cut away
			return false
		}
		return true
	})
	modeList(&b, "", m.ansi, func(int) bool { return true })
	for _, k := range slices.Sorted(maps.Keys(m.keys)) {
		b.WriteString(m.keys[k])
	}
	if m.keypad != 0 {
		b.WriteString("\x1b" + string(m.keypad))
	}
	for _, k := range slices.Sorted(maps.Keys(m.charset)) {
		b.WriteString(m.charset[k])
	}
	if m.shift != 0 {
		b.WriteByte(m.shift)
	}
	b.WriteString(m.cursor)
	b.WriteString(m.region)
	b.WriteString(strings.Join(m.pen, ""))
	b.WriteString(m.link)
	return []byte(b.String())
}

func modeList(b *strings.Builder, prefix string, set map[int]bool, which func(int) bool) {
	for _, n := range slices.Sorted(maps.Keys(set)) {
		if !which(n) {
			continue
		}
		c := 'l'
		if set[n] {
			c = 'h'
		}
		fmt.Fprintf(b, "\x1b[%s%d%c", prefix, n, c)
	}
}

// put sets a key of a map that may be nil and never grows beyond most.
func put[K comparable, V any](m *map[K]V, k K, v V, most int) {
	if *m == nil {
		*m = make(map[K]V)
	}
	if _, there := (*m)[k]; there || len(*m) < most {
		(*m)[k] = v
	}
}

func kept(raw []byte) string {
	if len(raw) > maxKept {
		return ""
	}
	return string(raw)
}
