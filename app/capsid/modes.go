package main

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// detachKeys are what terminals send for ctrl-]: the control character; as the kitty keyboard protocol and xterm's modifyOtherKeys say it, one of which a
// program in the session may have switched on.
var detachKeys = [][]byte{{0x1d}, []byte("\x1b[93;5u"), []byte("\x1b[93;5:1u"), []byte("\x1b[27;5;93~")}

// cutDetach returns what comes before a detach key, and whether there was one.
func cutDetach(p []byte) (before []byte, detach bool) {
	cut := len(p)
	for _, key := range detachKeys {
		if i := bytes.Index(p, key); i >= 0 && i < cut {
			cut, detach = i, true
		}
	}
	return p[:cut], detach
}

// modeKeeper passes a session's output to the person's terminal and remembers which modes it switched on, to switch them off in the end: whatever
// program runs in the session, the person's shell gets its terminal back as it was.
type modeKeeper struct {
	out io.Writer

	mu    sync.Mutex
	set   []int  // private modes (DECSET) that are on
	kitty int    // entries pushed on the keyboard's stack
	state byte   // of the parser: 0 ground, 1 after ESC, 2 in CSI
	csi   []byte // parameters of the CSI sequence under way
	over  bool   // reset was called: nothing more is passed on
}

// maxCSI is longer than any mode sequence; what is longer is passed on and not understood.
const maxCSI = 64

// maxModes is more than there are; a hostile guest gains nothing by inventing some.
const maxModes = 64

func (m *modeKeeper) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return len(p), nil
	}
	for _, b := range p {
		m.scan(b)
	}
	return m.out.Write(p)
}

func (m *modeKeeper) scan(b byte) {
	switch {
	case b == 0x1b:
		m.state = 1
	case m.state == 1 && b == '[':
		m.state, m.csi = 2, m.csi[:0]
	case m.state == 2 && b >= 0x20 && b < 0x40 && len(m.csi) < maxCSI:
		m.csi = append(m.csi, b)
	case m.state == 2 && b >= 0x40:
		m.sequence(string(m.csi), b)
		m.state = 0
	default:
		m.state = 0
	}
}

func (m *modeKeeper) sequence(params string, final byte) {
	switch {
	case final == 'u' && strings.HasPrefix(params, ">"):
		m.kitty = min(m.kitty+1, maxModes)
	case final == 'u' && strings.HasPrefix(params, "<"):
		n, err := strconv.Atoi(params[1:])
		if err != nil {
			n = 1
		}
		m.kitty = max(0, m.kitty-n)
	case (final == 'h' || final == 'l') && strings.HasPrefix(params, "?"):
		for _, p := range strings.Split(params[1:], ";") {
			n, err := strconv.Atoi(p)
			if err != nil {
				continue
			}
			m.set = slices.DeleteFunc(m.set, func(o int) bool { return o == n })
			// The cursor (25) and wrapping (7) are on in an ordinary terminal, so it is their being off that is undone.
			if normal := n == 25 || n == 7; (final == 'h') != normal && len(m.set) < maxModes {
				m.set = append(m.set, n)
			}
		}
	}
}

// reset undoes what is still in force.
func (m *modeKeeper) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	m.over = true
	// CAN ends a sequence that was cut short; then attributes, the character set, the keypad and xterm's key modes.
	out := "\x18\x1b[0m\x1b(B\x1b>\x1b[>4m"
	if m.kitty > 0 {
		out += "\x1b[<" + strconv.Itoa(m.kitty) + "u"
	}
	for _, n := range slices.Backward(m.set) {
		end := "l"
		if n == 25 || n == 7 {
			end = "h"
		}
		out += "\x1b[?" + strconv.Itoa(n) + end
	}
	io.WriteString(m.out, out)
}
