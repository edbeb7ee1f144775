package ui

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
)

// Element is one thing on the window that can be seen or clicked, as the probe tells it. Places are pixels from the window's top left corner.
type Element struct {
	Role   string `json:"role"` // button, tab, session, row, node, card, text, entry or terminal
	Name   string `json:"name"`
	X      int    `json:"x"`
	Y      int    `json:"y"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Off    bool   `json:"off,omitempty"` // shown, but cannot be used now
}

// probe lists what is on the window for programs that test it or read it aloud. It is served on a unix socket that only this user can open, and
// only when the socket is asked for: nothing can be changed through it.
type probe struct {
	mu    sync.Mutex
	items []probed
}

type probed struct {
	role string
	name func() string
	obj  fyne.CanvasObject
	off  func() bool
}

// add names an object. A nil probe (the usual case) keeps nothing.
func (p *probe) add(role string, obj fyne.CanvasObject, name func() string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	item := probed{role: role, name: name, obj: obj}
	if d, ok := obj.(fyne.Disableable); ok {
		item.off = d.Disabled
	}
	p.items = append(p.items, item)
}

// dump lists what can be seen. It runs on the UI goroutine. While a dialog is in front, what is not in it cannot be used.
func (p *probe) dump(c fyne.Canvas, front fyne.CanvasObject) []Element {
	p.mu.Lock()
	items := append([]probed(nil), p.items...)
	p.mu.Unlock()
	driver := fyne.CurrentApp().Driver()
	out := []Element{}
	window := c.Size()
	for _, it := range items {
		if !it.obj.Visible() || driver.CanvasForObject(it.obj) != c {
			continue
		}
		pos, size := driver.AbsolutePositionForObject(it.obj), it.obj.Size()
		// What is in no tree that is shown is answered with the origin, where nothing of ours stands.
		if pos == (fyne.Position{}) || size.Width <= 0 || pos.X >= window.Width || pos.Y >= window.Height || pos.X+size.Width <= 0 || pos.Y+size.Height <= 0 {
			continue
		}
		name := it.name()
		if name == "" {
			continue
		}
		x, y := c.PixelCoordinateForPosition(pos)
		x2, y2 := c.PixelCoordinateForPosition(pos.AddXY(size.Width, size.Height))
		off := it.off != nil && it.off() || front != nil && !holds(front, it.obj)
		out = append(out, Element{Role: it.role, Name: name, X: x, Y: y, Width: x2 - x, Height: y2 - y, Off: off})
	}
	return out
}

// holds reports whether o stands in the tree of containers below root.
func holds(root, o fyne.CanvasObject) bool {
	if root == o {
		return true
	}
	var below []fyne.CanvasObject
	switch r := root.(type) {
	case *fyne.Container:
		below = r.Objects
	case *container.Scroll:
		below = []fyne.CanvasObject{r.Content}
	case *container.ThemeOverride:
		below = []fyne.CanvasObject{r.Content}
	}
	for _, b := range below {
		if holds(b, o) {
			return true
		}
	}
	return false
}

// front is the content of the dialog in front, or nil.
func (w *Window) front() fyne.CanvasObject {
	if n := len(w.dialogs); n > 0 {
		return w.dialogs[n-1].pop.Content
	}
	return nil
}

// ServeProbe answers on a unix socket: each line read is answered with a line of JSON, the list of Elements that are shown. It ends when
// the listener is closed.
func (w *Window) ServeProbe(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		stop := func() { conn.Close() }
		w.onClose(stop)
		w.spawn(func() {
			defer stop()
			in := bufio.NewScanner(conn)
			for in.Scan() {
				if strings.TrimSpace(in.Text()) == "quit" {
					return
				}
				answer := make(chan []Element, 1)
				w.do(func() { answer <- w.probe.dump(w.win.Canvas(), w.front()) })
				select {
				case list := <-answer:
					if json.NewEncoder(conn).Encode(list) != nil {
						return
					}
				case <-w.ctx.Done():
					return
				}
			}
		})
	}
}
