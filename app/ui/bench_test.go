package ui

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"capsid/app/session"
)

// bench is a window without a screen, on the test's own goroutine: Fyne's test driver has no UI goroutine, so what the window hands over is run here.
type bench struct {
	t *testing.T
	w *Window
	f *standIn

	mu    sync.Mutex
	queue []func()
	kick  chan struct{}
	ran   int
}

func newBench(t *testing.T, f *standIn) *bench {
	t.Helper()
	b := &bench{t: t, f: f, kick: make(chan struct{}, 1)}
	app := queueApp{test.NewTempApp(t), b}
	fyne.SetCurrentApp(app)
	b.w = New(Config{App: app, Engine: f, Probe: true})
	b.w.win.Resize(fyne.NewSize(1360, 840))
	b.w.Show()
	t.Cleanup(func() {
		if b.w.ctx.Err() == nil {
			b.w.Close()
		}
	})
	b.until("the buttons are there", func() bool { return len(b.w.agents) > 0 && b.w.loaded })
	return b
}

// queueApp is the test driver's app, but for fyne.Do: that driver would call at once, on whatever goroutine.
type queueApp struct {
	fyne.App
	b *bench
}

func (a queueApp) Driver() fyne.Driver { return queueDriver{a.App.Driver(), a.b} }

type queueDriver struct {
	fyne.Driver
	b *bench
}

func (d queueDriver) DoFromGoroutine(fn func(), wait bool) {
	done := make(chan struct{})
	d.b.mu.Lock()
	d.b.queue = append(d.b.queue, func() { fn(); close(done) })
	d.b.mu.Unlock()
	select {
	case d.b.kick <- struct{}{}:
	default:
	}
	if wait {
		<-done
	}
}

// pump runs what was handed over.
func (b *bench) pump() {
	b.mu.Lock()
	queue := b.queue
	b.queue = nil
	b.mu.Unlock()
	for _, fn := range queue {
		fn()
		b.ran++
	}
}

func (b *bench) until(what string, is func() bool) {
	b.t.Helper()
	deadline := time.After(time.Minute)
	for {
		b.pump()
		if is() {
			return
		}
		select {
		case <-b.kick:
		case <-time.After(20 * time.Millisecond): // what is waited for may also change on the other side
		case <-deadline:
			b.t.Fatalf("it did not happen that %s; shown: %s", what, b.shown())
		}
	}
}

func (b *bench) shown() string {
	var out []string
	for _, e := range b.w.probe.dump(b.w.win.Canvas(), b.w.front()) {
		if !e.Off {
			out = append(out, e.Role+" "+e.Name)
		}
	}
	return strings.Join(out, "; ")
}

func (b *bench) shows(role, prefix string) bool {
	for _, e := range b.w.probe.dump(b.w.win.Canvas(), b.w.front()) {
		if e.Role == role && strings.HasPrefix(e.Name, prefix) && !e.Off {
			return true
		}
	}
	return false
}

// tap taps what has this name, once it can be seen.
func (b *bench) tap(role, name string) {
	b.t.Helper()
	b.until(role+" "+name+" is shown", func() bool { return b.shows(role, name) })
	for i := len(b.w.probe.items) - 1; i >= 0; i-- {
		it := b.w.probe.items[i]
		if it.role != role || !strings.HasPrefix(it.name(), name) || fyne.CurrentApp().Driver().AbsolutePositionForObject(it.obj) == (fyne.Position{}) {
			continue
		}
		test.Tap(it.obj.(fyne.Tappable))
		b.pump()
		return
	}
}

func running(id, name string) session.Status {
	return session.Status{Session: session.Session{ID: id, Name: name, Agent: "claude", Workspace: "/tmp", Created: time.Unix(1e9, 0)}, State: session.Running, Started: time.Unix(1e9, 0)}
}

// withSession is a bench whose one session runs and is in front. Its terminal cannot be reached: the terminal widget has tests of its own.
func withSession(t *testing.T) (*bench, *standInClient) {
	f := newStandIn()
	f.list = []session.Status{running("00000001", "claude-1")}
	c := f.client("00000001")
	c.noTerminal = errors.New("no terminal here")
	b := newBench(t, f)
	b.until("the session is followed", func() bool { return b.w.current() != nil && b.w.current().following })
	return b, c
}
