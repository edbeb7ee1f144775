package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/app/terminal/vt"
)

// screen is a person in front of a session's terminal: it shows what the program draws, answers its queries, and types.
type screen struct {
	t      testing.TB
	conn   *session.TerminalConn
	vt     *vt.Screen
	mu     sync.Mutex
	change chan struct{} // closed and renewed at each change
}

// look looks at the terminal that the session's agent runs in.
func (h *house) look(st session.Status) *screen {
	h.t.Helper()
	return h.lookAt(st, session.MainTerminal)
}

func (h *house) lookAt(st session.Status, name string) *screen {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const cols, rows = 120, 40
	conn, err := h.store.Client(st.ID).Terminal(ctx, name, cols, rows)
	if err != nil {
		h.t.Fatalf("attach: %v", err)
	}
	s := &screen{t: h.t, conn: conn, change: make(chan struct{})}
	s.vt = vt.New(vt.Options{Cols: cols, Rows: rows, Reply: func(b []byte) { conn.Write(b) }})
	h.t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			s.vt.Write(buf[:n])
			s.mu.Lock()
			close(s.change)
			s.change = make(chan struct{})
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) text() string { return s.vt.Text(s.vt.All()) }

// await waits until the screen, scrollback included, shows a text.
func (s *screen) await(text string) {
	s.t.Helper()
	if !s.shows(text, patience) {
		s.t.Fatalf("the screen never showed %q; it shows:\n%s", text, s.text())
	}
}

// shows waits for a text, but no longer than limit.
func (s *screen) shows(text string, limit time.Duration) bool {
	return s.becomes(func() bool { return strings.Contains(flat(s.text()), flat(text)) }, limit)
}

// becomes waits until the screen is so, but no longer than limit.
func (s *screen) becomes(so func() bool, limit time.Duration) bool {
	deadline := time.After(limit)
	for {
		s.mu.Lock()
		change := s.change
		s.mu.Unlock()
		if so() {
			return true
		}
		select {
		case <-change:
		case <-deadline:
			return false
		}
	}
}

// flat takes out white space and the borders that programs draw: where a line is broken does not matter.
func flat(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '│' || r == '┃' || r == '\u00a0' {
			return -1
		}
		return r
	}, s)
}

// key types bytes as they come from a keyboard.
func (s *screen) key(keys string) {
	s.t.Helper()
	if _, err := s.conn.Write([]byte(keys)); err != nil {
		s.t.Fatalf("type: %v", err)
	}
}

// say types a line, waits until it is shown, and sends it until the answer comes: Gemini CLI takes an Enter that it reads together with the line, as it does on a slow
// machine, for a part of pasted text, and a person would press it again.
func (s *screen) say(line, answer string) {
	s.t.Helper()
	s.key(line)
	s.await(line)
	for range patience / again {
		s.key("\r")
		if s.shows(answer, again) {
			return
		}
	}
	s.t.Fatalf("the answer %q never came; the screen shows:\n%s", answer, s.text())
}

const again = 20 * time.Second
