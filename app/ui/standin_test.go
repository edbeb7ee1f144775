package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"capsid/app/session"
	"capsid/guest/control"
	"capsid/proxy/ledger"
)

// standIn is an Engine without machines.
type standIn struct {
	mu          sync.Mutex
	list        []session.Status
	clients     map[string]*standInClient
	watch       chan struct{}
	agents      []Agent
	steps       []string
	stepTime    time.Duration
	startErr    error
	noImage     bool
	started     []session.StartOptions
	removed     []string
	hold        chan struct{} // a start waits for it, if it is not nil
	usable      []Backend
	refuseEarly bool // startErr comes before there is a session

	family   Family
	families int      // how often it was asked for
	calls    []string // of the calls about snapshots
	keepErr  error
	pending  chan error // what a call about snapshots ends with, if it is not nil
}

func newStandIn() *standIn {
	return &standIn{
		clients: map[string]*standInClient{}, watch: make(chan struct{}, 16),
		agents: []Agent{{Name: "claude", Title: "Claude"}, {Name: "codex", Title: "Codex"}, {Name: "gemini", Title: "Gemini"}, {Name: "shell", Title: "Shell"}},
		steps:  []string{"check image", "make disk", "boot machine", "set up guest"},
	}
}

func (f *standIn) Agents() ([]Agent, error) { return f.agents, nil }

func (f *standIn) List() ([]session.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]session.Status(nil), f.list...), nil
}

func (f *standIn) Watch(ctx context.Context) (<-chan struct{}, error) {
	out := make(chan struct{})
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case <-f.watch:
				select {
				case out <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// put adds a session, or changes it.
func (f *standIn) put(st session.Status) {
	f.mu.Lock()
	for i := range f.list {
		if f.list[i].ID == st.ID {
			f.list[i] = st
			f.mu.Unlock()
			f.watch <- struct{}{}
			return
		}
	}
	f.list = append(f.list, st)
	f.mu.Unlock()
	f.watch <- struct{}{}
}

func (f *standIn) Start(ctx context.Context, o session.StartOptions, on func(session.Status)) (session.Status, error) {
	f.mu.Lock()
	f.started = append(f.started, o)
	n := len(f.list) + 1
	early, startErr := f.refuseEarly, f.startErr
	f.mu.Unlock()
	if early && startErr != nil {
		return session.Status{}, startErr
	}
	st := session.Status{Session: session.Session{ID: fmt.Sprintf("%08x", 0xa0+n), Name: fmt.Sprintf("%s-%d", o.Agent, n), Agent: o.Agent, Workspace: o.Workspace,
		Created: time.Now(), Autonomous: true, CPUs: 2, Memory: 2 << 30}, State: session.Starting}
	tell := func() {
		told := st
		told.Steps = append([]session.Step(nil), st.Steps...)
		on(told)
	}
	tell()
	for _, name := range f.steps {
		st.Steps = append(st.Steps, session.Step{Name: name})
		tell()
		select {
		case <-time.After(f.stepTime):
		case <-ctx.Done():
			return st, ctx.Err()
		}
		if startErr != nil {
			st.Console = []string{"[    1.2] Kernel panic - not syncing"}
			return st, startErr
		}
		st.Steps[len(st.Steps)-1].Done = true
		st.Steps[len(st.Steps)-1].Duration = 3*f.stepTime/4 + 1
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
	st.State, st.Started = session.Running, time.Now()
	st.Backing = "soft: QEMU 9.1.0, TCG (QEMU emulates the processor; not kvm: /dev/kvm is absent)"
	st.Defences = []string{"no network card", "QEMU sandbox (seccomp)", "share process confined by Landlock"}
	st.Steps = append([]session.Step(nil), st.Steps...)
	f.put(st)
	on(st)
	return st, nil
}

func (f *standIn) Remove(id string, _ bool) error {
	f.mu.Lock()
	f.removed = append(f.removed, id)
	for i := range f.list {
		if f.list[i].ID == id {
			f.list = append(f.list[:i:i], f.list[i+1:]...)
			break
		}
	}
	f.mu.Unlock()
	f.watch <- struct{}{}
	return nil
}

func (f *standIn) client(id string) *standInClient {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.clients[id]
	if c == nil {
		c = &standInClient{events: make(chan session.Event, 4096), engine: f, id: id}
		f.clients[id] = c
	}
	return c
}

func (f *standIn) Client(id string) Client { return f.client(id) }

func (f *standIn) Ledger(string, ledger.Query) ([]ledger.Entry, error) {
	return nil, errors.New("none")
}

func (f *standIn) Image() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.noImage {
		return "", ErrNoImage
	}
	return "abc", nil
}

func (f *standIn) BuildImage(ctx context.Context, progress func(Progress)) error {
	for i := range 10 {
		progress(Progress{Stage: "Installing packages", Done: float64(i) / 10, Line: fmt.Sprintf("Unpacking package-%d (1.2.3-4) …", i)})
		select {
		case <-time.After(f.stepTime):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	f.noImage = false
	f.mu.Unlock()
	return nil
}

func (f *standIn) Backends() Backends {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Backends{Line: "New machines: soft, QEMU emulates the processor; not kvm: /dev/kvm is absent", Usable: f.usable}
}

type standInClient struct {
	engine *standIn
	id     string
	events chan session.Event

	mu         sync.Mutex
	rows       []ledger.Entry
	groups     []ledger.Group
	decided    []session.DecisionRequest
	calls      []string
	terms      []*standInTerminal
	greet      string
	fail       error
	noTerminal error // why no terminal can be attached to
}

// ask puts one row into the ledger and tells the window.
func (c *standInClient) ask(e ledger.Entry) {
	c.mu.Lock()
	e.ID = int64(len(c.rows) + 1)
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	c.rows = append(c.rows, e)
	if e.Decision != ledger.Allow {
		c.refuse(e)
	}
	c.mu.Unlock()
	c.events <- session.Event{Kind: session.LedgerEvent, Entry: &e}
}

func (c *standInClient) refuse(e ledger.Entry) {
	d := ledger.Domain(e.Host)
	h := ledger.Host{Host: e.Host, Port: e.Port, Count: 1, Last: e.Time, Method: e.Method, Path: "/", Process: e.Process, Decision: e.Decision, Reason: e.Reason, Source: e.Source}
	for i := range c.groups {
		if g := &c.groups[i]; g.Domain == d {
			g.Count++
			g.Last = e.Time
			for j := range g.Hosts {
				if g.Hosts[j].Host == e.Host {
					g.Hosts[j].Count++
					return
				}
			}
			g.Hosts = append(g.Hosts, h)
			return
		}
	}
	c.groups = append([]ledger.Group{{Domain: d, Count: 1, Last: e.Time, Hosts: []ledger.Host{h}}}, c.groups...)
}

func (c *standInClient) Events(ctx context.Context) (<-chan session.Event, error) {
	out := make(chan session.Event)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-c.events:
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

func (c *standInClient) Terminal(_ context.Context, name string, _, _ int) (TerminalConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noTerminal != nil {
		return nil, c.noTerminal
	}
	t := &standInTerminal{name: name, exit: make(chan int, 1), out: make(chan []byte, 16), closed: make(chan struct{})}
	if c.greet != "" {
		t.out <- []byte(c.greet)
	}
	c.terms = append(c.terms, t)
	return t, nil
}

func (c *standInClient) call(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, name)
	return c.fail
}

func (c *standInClient) OpenTerminal(_ context.Context, s control.TerminalSpec) error {
	return c.call("open " + s.Name)
}
func (c *standInClient) Pause(context.Context) error  { return c.call("pause") }
func (c *standInClient) Resume(context.Context) error { return c.call("resume") }
func (c *standInClient) Kill(context.Context) error   { return c.call("kill") }
func (c *standInClient) Suspend(ctx context.Context) (session.SnapshotResult, error) {
	return session.SnapshotResult{Name: "suspended-1"}, c.engine.keep(ctx, "suspend "+c.id)
}

func (c *standInClient) Decide(_ context.Context, host, action, scope string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	c.decided = append(c.decided, session.DecisionRequest{Host: host, Action: action, Scope: scope})
	var left []ledger.Group
	for _, g := range c.groups {
		kept := ledger.Filter([]ledger.Group{g}, func(h ledger.Host) bool { return h.Host != host && "*."+g.Domain != host })
		left = append(left, kept...)
	}
	c.groups = left
	return nil
}

func (c *standInClient) Ledger(_ context.Context, q ledger.Query) ([]ledger.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []ledger.Entry
	for _, e := range c.rows {
		if e.ID > q.After {
			out = append(out, e)
		}
	}
	return out, nil
}

func (c *standInClient) Blocked(context.Context) ([]ledger.Group, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]ledger.Group(nil), c.groups...), nil
}

// standInTerminal echoes what is typed.
type standInTerminal struct {
	name   string
	out    chan []byte
	rest   []byte
	exit   chan int
	once   sync.Once
	closed chan struct{}
}

func (t *standInTerminal) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		select {
		case t.rest = <-t.out:
		case <-t.closed:
			return 0, io.EOF
		}
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *standInTerminal) Write(p []byte) (int, error) {
	select {
	case t.out <- append([]byte(nil), p...):
	default:
	}
	return len(p), nil
}

func (t *standInTerminal) Resize(int, int) error { return nil }
func (t *standInTerminal) Exit() <-chan int      { return t.exit }
func (t *standInTerminal) Close() error          { t.once.Do(func() { close(t.closed) }); return nil }

// keep is the part that all calls about snapshots have: it is recorded, waits, and fails if it is to.
func (f *standIn) keep(ctx context.Context, call string) error {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	pending, err := f.pending, f.keepErr
	f.mu.Unlock()
	if pending == nil {
		return err
	}
	select {
	case err := <-pending:
		return err
	case <-ctx.Done():
		f.mu.Lock()
		f.calls = append(f.calls, "cancelled "+call)
		f.mu.Unlock()
		return ctx.Err()
	}
}

func (f *standIn) called() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.calls)
}

func (f *standIn) Family(string) (Family, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.families++
	return f.family, nil
}

func (f *standIn) Snapshot(ctx context.Context, id string, r session.SnapshotRequest) (session.SnapshotResult, error) {
	if r.Name == "" {
		r.Name = "snap-1"
	}
	return session.SnapshotResult{Name: r.Name, Rested: 120 * time.Millisecond, Bytes: 2e8}, f.keep(ctx, fmt.Sprintf("snapshot %s %s %q", id, r.Name, r.Note))
}

func (f *standIn) Fork(ctx context.Context, from session.SnapshotRef, count int, on func(session.Status)) ([]session.Status, error) {
	var list []session.Status
	for i := range count {
		st := running(fmt.Sprintf("000000f%d", i), fmt.Sprintf("claude-1-fork-%d", i+1))
		f.client(st.ID).noTerminal = errors.New("no terminal here")
		st.State, st.Parent, st.Created = session.Starting, &session.SnapshotRef{Session: from.Session, Snapshot: "fork-1"}, time.Unix(1e9+60, 0)
		f.put(st)
		on(st)
		list = append(list, st)
	}
	err := f.keep(ctx, fmt.Sprintf("fork %s ×%d", from, count))
	for i := range list {
		if err != nil {
			f.Remove(list[i].ID, true)
			continue
		}
		list[i].State = session.Running
		f.put(list[i])
		on(list[i])
	}
	if err != nil {
		list = nil
	}
	return list, err
}

func (f *standIn) Restore(ctx context.Context, to session.SnapshotRef, on func(session.Status)) (session.Status, error) {
	st := running(to.Session, "claude-1")
	st.State, st.Parent = session.Starting, &to
	on(st)
	err := f.keep(ctx, "restore "+to.String())
	if st.State = session.Running; err != nil {
		st.State = session.Stopped
	}
	f.put(st)
	on(st)
	return st, err
}

func (f *standIn) RemoveSnapshots(refs []session.SnapshotRef) error {
	return f.keep(context.Background(), fmt.Sprintf("remove %v", refs))
}
