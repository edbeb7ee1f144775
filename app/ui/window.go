package ui

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"capsid/app/session"
	"capsid/app/ui/remember"
	"capsid/app/ui/traffic"
)

// Config says what a window shows. App and Engine are needed; other zero fields are defaults.
type Config struct {
	App      fyne.App
	Engine   Engine
	Remember *remember.File // nil: nothing is remembered
	Log      *slog.Logger   // nil: slog.Default
	Version  string
	Icon     fyne.Resource
	Probe    bool // keep the list that ServeProbe serves
	Now      func() time.Time
}

// Window is the desktop window.
type Window struct {
	cfg    Config
	app    fyne.App
	win    fyne.Window
	engine Engine
	memory *remember.File
	log    *slog.Logger
	theme  fyne.Theme
	probe  *probe
	now    func() time.Time

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	closeMu sync.Mutex
	closers []func()

	// Below: the UI goroutine's.
	sidebar  *sidebar
	strip    *tabStrip
	centre   *fyne.Container
	welcome  *welcome
	egress   *egress
	work     *workCard
	status   *statusBar
	left     *container.Split
	right    *container.Split
	dialogs  []*dialogBox
	agents   []Agent
	sessions map[string]*live
	order    []*live
	panes    []*pane
	active   *pane
	focused  bool
	noImage  bool
	backends Backends
	noticeAt time.Time
	rangAt   time.Time
	fontSize float32
	loaded   bool
}

// live is a session as the window knows it.
type live struct {
	id        string // never changes: other goroutines read it
	st        session.Status
	traffic   *traffic.Live
	blocked   traffic.Blocked
	following bool
	history   bool // the ledger's file was read
	ghost     bool // it could not start, and the store has taken it away
	bell      bool
	cancel    context.CancelFunc // of a start that this window made and that is under way
	task      *task              // nil when this window has asked for nothing long
	depth     int                // how many sessions in the list it was forked from
	last      bool               // of its parent's forks in the list
	gate      gate
	asked     gate // for the Blocked list
}

// New makes the window; Show opens it.
func New(cfg Config) *Window {
	if cfg.Remember == nil {
		cfg.Remember = remember.Open("")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	w := &Window{cfg: cfg, app: cfg.App, engine: cfg.Engine, memory: cfg.Remember, log: cfg.Log, theme: Theme{}, now: cfg.Now, sessions: map[string]*live{}, focused: true}
	if cfg.Probe {
		w.probe = &probe{}
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.app.Settings().SetTheme(w.theme)
	w.win = w.app.NewWindow("Capsid")
	if cfg.Icon != nil {
		w.win.SetIcon(cfg.Icon)
	}
	w.win.SetPadded(false)
	w.win.SetMaster()
	w.build()
	w.keys()
	w.win.SetCloseIntercept(w.Close)
	life := w.app.Lifecycle()
	life.SetOnEnteredForeground(func() { w.focused = true; w.seen() })
	life.SetOnExitedForeground(func() { w.focused = false })
	return w
}

func (w *Window) build() {
	mem := w.memory.State()
	w.fontSize = mem.FontSize
	w.status = newStatusBar()
	w.sidebar = newSidebar(w)
	w.egress = newEgress(w)
	plus := w.button("", quiet, w.newShellTab).withIcon(plusIcon())
	plus.hint = "Open a shell in this machine (Ctrl+Shift+T)"
	keep := w.button("", quiet, func() { w.withCurrent(w.askSnapshot) }).withIcon(cameraIcon(colDim))
	keep.hint = "Take a snapshot of this machine (Ctrl+Shift+S)"
	fork := w.button("", quiet, func() { w.withCurrent(w.askForkNow) }).withIcon(forkIcon(colDim))
	fork.hint = "Fork this machine as it is now (Ctrl+Shift+D)"
	w.strip = newTabStrip(keep, fork, plus)
	w.work = newWorkCard(w)
	w.welcome = newWelcome(w)
	w.centre = container.NewStack(canvas.NewRectangle(colTerminal), w.welcome.root)
	middle := container.NewBorder(w.strip.root, nil, nil, nil, container.NewStack(w.centre, w.work.root))
	w.right = container.NewHSplit(middle, w.egress.root)
	w.right.Offset = or(mem.Egress, 0.61)
	w.left = container.NewHSplit(w.sidebar.root, w.right)
	w.left.Offset = or(mem.Sidebar, 0.16)
	if mem.HideEgress {
		w.egress.root.Hide()
	}
	w.win.SetContent(container.NewBorder(nil, w.status.root, nil, nil, w.left))
	size := fyne.NewSize(1360, 840)
	if mem.Width > 0 {
		size = fyne.NewSize(mem.Width, mem.Height)
	}
	w.win.Resize(size)
}

func or(v, fallback float64) float64 {
	if v == 0 {
		return fallback
	}
	return v
}

// Show opens the window and begins to look for sessions.
func (w *Window) Show() {
	w.win.Show()
	w.spawn(w.load)
	w.spawn(w.watch)
	w.spawn(w.tick)
}

// Close remembers how the window looks and closes it. Sessions go on.
func (w *Window) Close() {
	size := w.win.Canvas().Size()
	w.memory.Change(func(s *remember.State) {
		s.Width, s.Height = size.Width, size.Height
		s.Sidebar, s.Egress = w.left.Offset, w.right.Offset
		s.HideEgress, s.FontSize = !w.egress.root.Visible(), w.fontSize
	})
	if err := w.memory.Save(); err != nil {
		w.log.Warn("the window's size is not remembered", "error", err)
	}
	w.cancel()
	for _, p := range w.panes {
		p.detach()
	}
	w.closeMu.Lock()
	closers := w.closers
	w.closers = nil
	w.closeMu.Unlock()
	for _, c := range closers {
		c()
	}
	w.win.SetCloseIntercept(nil)
	w.win.Close()
}

// Wait returns when every goroutine of a closed window has ended, or ctx has.
func (w *Window) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { w.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spawn runs what may wait, away from the UI goroutine. It must end when w.ctx does.
func (w *Window) spawn(f func()) {
	w.running.Add(1)
	go func() {
		defer w.running.Done()
		f()
	}()
}

// do hands f to the UI goroutine; after Close it does nothing.
func (w *Window) do(f func()) {
	if w.ctx.Err() != nil {
		return
	}
	fyne.Do(func() {
		if w.ctx.Err() == nil {
			f()
		}
	})
}

func (w *Window) onClose(f func()) {
	w.closeMu.Lock()
	defer w.closeMu.Unlock()
	w.closers = append(w.closers, f)
}

// hint shows what the pointer is on.
func (w *Window) hint(text string) { w.status.setHint(text) }

// note tells in the status bar what has just happened.
func (w *Window) note(text string, bad bool) {
	w.noticeAt = w.now()
	w.status.setNotice(text, bad)
}

// button makes a button whose hint shows in the status bar and that the probe knows.
func (w *Window) button(text string, l look, tapped func()) *button {
	b := newButton(text, l, tapped)
	b.onHint = w.hint
	w.probe.add("button", b, b.AccessibilityLabel)
	return b
}

// cardButton is one of a card's buttons: the probe tells it together with the card's domain.
func (w *Window) cardButton(k *card, text string, l look, tapped func(), hint string) *button {
	b := newButton(text, l, tapped).asSmall()
	b.hint, b.onHint = hint, w.hint
	w.probe.add("button", b, func() string {
		if !k.Visible() {
			return ""
		}
		return k.c.Domain + ": " + b.AccessibilityLabel()
	})
	return b
}

// current is the session whose terminal is in front.
func (w *Window) current() *live {
	if w.active == nil {
		return nil
	}
	return w.active.s
}

func (w *Window) hasWorkspace() bool {
	s := w.current()
	return s != nil && s.st.Workspace != ""
}

func (w *Window) copyText(text string) {
	w.app.Clipboard().SetContent(text)
	w.note("Copied", false)
}

// title says what is in front, for the desktop's window list.
func (w *Window) title() {
	text := "Capsid"
	if w.active != nil {
		text = w.active.title() + " – Capsid"
	}
	if w.win.Title() != text {
		w.win.SetTitle(text)
	}
}

// gate lets many calls become one a little later. Fire runs on a goroutine of its own.
type gate struct {
	mu    sync.Mutex
	armed bool
}

func (g *gate) poke(wait time.Duration, fire func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.armed {
		return
	}
	g.armed = true
	time.AfterFunc(wait, func() {
		g.mu.Lock()
		g.armed = false
		g.mu.Unlock()
		fire()
	})
}
