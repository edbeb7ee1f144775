package vt

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// rig is a screen with what it called back.
type rig struct {
	*Screen
	mu      sync.Mutex
	replies string
	titles  []string
	bells   int
	notes   []string
	clips   []string
}

func newRig(cols, rows int) *rig {
	r := &rig{}
	lock := func(f func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		f()
	}
	r.Screen = New(Options{
		Cols: cols, Rows: rows,
		Reply:          func(b []byte) { lock(func() { r.replies += string(b) }) },
		Title:          func(s string) { lock(func() { r.titles = append(r.titles, s) }) },
		Bell:           func() { lock(func() { r.bells++ }) },
		Notify:         func(t, b string) { lock(func() { r.notes = append(r.notes, t+"|"+b) }) },
		ClipboardWrite: func(s string) { lock(func() { r.clips = append(r.clips, s) }) },
	})
	return r
}

func (r *rig) send(parts ...string) *rig {
	for _, p := range parts {
		r.Write([]byte(p))
	}
	return r
}

// wait lets the queue run empty.
func (r *rig) wait(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	r.out.push(func() { close(done) }, 0)
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the queue does not run empty")
	}
}

// screen is the visible text, lines separated by "|", blank lines at the end left away.
func (r *rig) screen() string {
	var f Frame
	r.Snapshot(&f, -1)
	lines := make([]string, f.Rows)
	for i := range f.Lines {
		lines[i] = f.Lines[i].Text()
	}
	return strings.TrimRight(strings.Join(lines, "|"), "|")
}

func (r *rig) everything() string {
	return strings.TrimRight(strings.ReplaceAll(r.Text(r.All()), "\n", "|"), "|")
}

func (r *rig) at(x, y int) Cell {
	var f Frame
	r.Snapshot(&f, -1)
	return f.Lines[y].Cells[x]
}

func (r *rig) cursor() (x, y int) {
	var f Frame
	r.Snapshot(&f, -1)
	return f.Cursor.X, f.Cursor.Y
}
