package supervisor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"capsid/app/session"
	"capsid/guest/control"
	"capsid/guest/link"
	"capsid/proxy/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine answers without a machine.
type fakeEngine struct {
	mu      sync.Mutex
	state   session.State
	decided []session.DecisionRequest
	asked   ledger.Query
	term    *fakeTerminal
	killed  chan struct{}
}

func (f *fakeEngine) Status() session.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return session.Status{Session: session.Session{ID: "0123abcd"}, State: f.state}
}

func (f *fakeEngine) set(s session.State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == session.Starting {
		return errNotUp
	}
	f.state = s
	return nil
}
func (f *fakeEngine) Pause(context.Context) error  { return f.set(session.Paused) }
func (f *fakeEngine) Resume(context.Context) error { return f.set(session.Running) }
func (f *fakeEngine) Kill(context.Context) error   { close(f.killed); return nil }
func (f *fakeEngine) Suspend(context.Context) (session.SnapshotResult, error) {
	return session.SnapshotResult{Name: "suspended-1", Rested: time.Second}, nil
}
func (f *fakeEngine) Snapshot(_ context.Context, r session.SnapshotRequest) (session.SnapshotResult, error) {
	if r.Name == "taken" {
		return session.SnapshotResult{}, &session.Error{Message: "taken", Hint: "another"}
	}
	return session.SnapshotResult{Name: r.Name + " " + r.Note, Bytes: 5}, nil
}

// DialControl gives a stream that echoes.
func (f *fakeEngine) DialControl(context.Context) (link.Conn, error) {
	here, there := net.Pipe()
	go func() {
		io.Copy(there, there)
		there.Close()
	}()
	return pipeConn{here}, nil
}

type pipeConn struct{ net.Conn }

func (p pipeConn) CloseWrite() error { return p.Close() }

func (f *fakeEngine) Terminals(context.Context) ([]control.TerminalInfo, error) {
	return []control.TerminalInfo{{Name: "main", Running: true}}, nil
}

func (f *fakeEngine) Terminal(_ context.Context, spec control.TerminalSpec, start bool) (terminal, error) {
	if spec.Name != "main" || !start {
		return nil, errors.New("there is no terminal " + spec.Name)
	}
	f.term = &fakeTerminal{cols: spec.Cols, rows: spec.Rows, exit: make(chan int, 1)}
	f.term.r, f.term.w = io.Pipe()
	return f.term, nil
}

func (f *fakeEngine) Decide(d session.DecisionRequest) error {
	f.decided = append(f.decided, d)
	if d.Host == "10.0.0.1" {
		return &session.Error{Message: "a private address", Hint: "a rule in user.toml"}
	}
	return nil
}

func (f *fakeEngine) Ledger(q ledger.Query) ([]ledger.Entry, error) {
	f.asked = q
	return []ledger.Entry{{ID: 7, Host: "example.com"}}, nil
}

func (f *fakeEngine) Blocked() ([]ledger.Group, error) {
	return []ledger.Group{{Domain: "example.com", Count: 2}}, nil
}

// fakeTerminal echoes what is typed and ends at a "q".
type fakeTerminal struct {
	mu         sync.Mutex
	cols, rows int
	r          *io.PipeReader
	w          *io.PipeWriter
	exit       chan int
	once       sync.Once
}

func (t *fakeTerminal) Read(p []byte) (int, error) { return t.r.Read(p) }

func (t *fakeTerminal) Write(p []byte) (int, error) {
	if string(p) == "q" {
		t.once.Do(func() { t.exit <- 42; close(t.exit) })
		return len(p), t.w.Close()
	}
	return t.w.Write(p)
}

func (t *fakeTerminal) Resize(cols, rows int) error {
	t.mu.Lock()
	t.cols, t.rows = cols, rows
	t.mu.Unlock()
	_, err := t.w.Write([]byte("resized"))
	return err
}

func (t *fakeTerminal) Exit() <-chan int { return t.exit }

func (t *fakeTerminal) Close() error {
	t.once.Do(func() { close(t.exit) })
	t.w.Close()
	return t.r.Close()
}

// serveFake serves an API on a socket until the test ends.
func serveFake(t *testing.T, state session.State) (*fakeEngine, *hub, *session.Client, *api) {
	t.Helper()
	f := &fakeEngine{state: state, killed: make(chan struct{})}
	h := newHub()
	h.status(f.Status())
	log := slog.New(slog.DiscardHandler)
	dir, err := os.MkdirTemp("", "sup") // short: the path of a socket has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s.sock")
	l, err := listen(socket, log)
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(f, h, log)
	done := make(chan struct{})
	go func() { a.serve(l); close(done) }()
	t.Cleanup(func() { a.shutdown(5 * time.Second); <-done })
	return f, h, session.NewClient(socket), a
}

func TestCalls(t *testing.T) {
	f, _, c, _ := serveFake(t, session.Running)
	ctx := t.Context()
	st, err := c.Status(ctx)
	if err != nil || st.ID != "0123abcd" {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := c.Pause(ctx); err != nil || f.Status().State != session.Paused {
		t.Fatalf("pause: %v", err)
	}
	if err := c.Resume(ctx); err != nil || f.Status().State != session.Running {
		t.Fatalf("resume: %v", err)
	}
	list, err := c.Ledger(ctx, ledger.Query{After: 3, Limit: 5, Blocked: true, Host: "a&b"})
	if err != nil || len(list) != 1 || list[0].ID != 7 || f.asked != (ledger.Query{After: 3, Limit: 5, Blocked: true, Host: "a&b"}) {
		t.Fatalf("ledger: %+v, %v, asked %+v", list, err, f.asked)
	}
	groups, err := c.Blocked(ctx)
	if err != nil || len(groups) != 1 || groups[0].Count != 2 {
		t.Fatalf("blocked: %+v, %v", groups, err)
	}
	if err := c.Decide(ctx, "example.com", "allow", "session"); err != nil || f.decided[0].From != "command line" {
		t.Fatalf("decide: %v, %+v", err, f.decided)
	}
	err = c.Decide(ctx, "10.0.0.1", "allow", "session")
	if err == nil || session.Hint(err) != "a rule in user.toml" {
		t.Fatalf("a refusal lost its hint: %v", err)
	}
	if done, err := c.Snapshot(ctx, session.SnapshotRequest{Name: "a", Note: "b"}); err != nil || done.Name != "a b" || done.Bytes != 5 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := c.Snapshot(ctx, session.SnapshotRequest{Name: "taken"}); err == nil || session.Hint(err) != "another" {
		t.Error(err)
	}
	if done, err := c.Suspend(ctx); err != nil || done.Rested != time.Second {
		t.Errorf("%+v, %v", done, err)
	}
	if err := c.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	<-f.killed
}

func TestNotUp(t *testing.T) {
	_, _, c, _ := serveFake(t, session.Starting)
	if err := c.Pause(t.Context()); err == nil || session.Hint(err) == "" {
		t.Fatalf("%v", err)
	}
	gone := session.NewClient(filepath.Join(t.TempDir(), "none.sock"))
	if _, err := gone.Status(t.Context()); !errors.Is(err, session.ErrNotRunning) {
		t.Fatalf("no socket: %v", err)
	}
	if _, err := gone.Control(t.Context()); !errors.Is(err, session.ErrNotRunning) {
		t.Fatalf("no socket, control: %v", err)
	}
	if _, err := gone.Terminal(t.Context(), "main", 80, 24); !errors.Is(err, session.ErrNotRunning) {
		t.Fatalf("no socket, terminal: %v", err)
	}
}

func TestEvents(t *testing.T) {
	_, h, c, a := serveFake(t, session.Starting)
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := func() session.Event {
		t.Helper()
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("the stream ended")
			}
			return e
		case <-time.After(20 * time.Second):
			t.Fatal("no event")
		}
		panic("unreachable")
	}
	if e := next(); e.Kind != session.StatusEvent || e.Status.State != session.Starting {
		t.Fatalf("the first event is %+v", e)
	}
	h.entry(ledger.Entry{ID: 9, URL: "https://x/\n\ndata: forged"})
	if e := next(); e.Kind != session.LedgerEvent || e.Entry.ID != 9 || !strings.Contains(e.Entry.URL, "\n") {
		t.Fatalf("%+v", e)
	}
	h.notice(session.Notice{Level: "info", Text: "hello"})
	if e := next(); e.Kind != session.NoticeEvent || e.Notice.Text != "hello" {
		t.Fatalf("%+v", e)
	}
	// The last status arrives although the server ends at once.
	h.status(session.Status{State: session.Failed, Error: "gone"})
	go a.shutdown(10 * time.Second)
	if e := next(); e.Status == nil || e.Status.Error != "gone" {
		t.Fatalf("%+v", e)
	}
	for range events {
	}
}

func TestSlowClientHoldsUpNobody(t *testing.T) {
	h := newHub()
	f := h.subscribe()
	defer f.unsubscribe()
	for i := range 3 * maxQueued {
		h.entry(ledger.Entry{ID: int64(i)})
		h.status(session.Status{Blocked: i})
	}
	events, more := f.take()
	if len(events) != maxQueued+1 || !more {
		t.Fatalf("%d events, more %v", len(events), more)
	}
	if events[0].Status.Blocked != 3*maxQueued-1 || events[maxQueued].Entry.ID != 3*maxQueued-1 {
		t.Fatal("the last of them were lost, not the first")
	}
}

func TestTerminal(t *testing.T) {
	f, _, c, _ := serveFake(t, session.Running)
	if _, err := c.Terminal(t.Context(), "other", 80, 24); err == nil || !strings.Contains(err.Error(), "no terminal other") {
		t.Fatalf("%v", err)
	}
	conn, err := c.Terminal(t.Context(), session.MainTerminal, 101, 31)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if f.term.cols != 101 || f.term.rows != 31 {
		t.Fatalf("%dx%d", f.term.cols, f.term.rows)
	}
	buf := make([]byte, 7)
	long := strings.Repeat("a", 100<<10)
	go conn.Write([]byte(long))
	got := make([]byte, len(long))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != long {
		t.Fatalf("echo: %v", err)
	}
	if err := conn.Resize(50, 20); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "resized" {
		t.Fatalf("%q, %v", buf, err)
	}
	f.term.mu.Lock()
	if f.term.cols != 50 || f.term.rows != 20 {
		t.Errorf("%dx%d", f.term.cols, f.term.rows)
	}
	f.term.mu.Unlock()
	if _, err := conn.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
		t.Fatalf("%q, %v", rest, err)
	}
	select {
	case code := <-conn.Exit():
		if code != 42 {
			t.Fatalf("status %d", code)
		}
	default:
		t.Fatal("no status at the end of the output")
	}
}

func TestControlUpgrade(t *testing.T) {
	_, _, c, _ := serveFake(t, session.Running)
	conn, err := c.Control(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go conn.Write([]byte("SSH-2.0-x"))
	buf := make([]byte, 9)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "SSH-2.0-x" {
		t.Fatalf("%q, %v", buf, err)
	}
	// Bytes that came along with the answer must not be passed by: a copy that splices would.
	if _, ok := conn.(syscall.Conn); ok {
		t.Error("the connection shows its file descriptor")
	}
	if _, ok := conn.(interface{ CloseWrite() error }); !ok {
		t.Error("the connection cannot be half-closed")
	}
}

func TestPagesAreRefused(t *testing.T) {
	f := &fakeEngine{state: session.Running}
	a := newAPI(f, newHub(), slog.New(slog.DiscardHandler))
	for _, header := range []string{"Origin", "Sec-Fetch-Site"} {
		req, err := http.NewRequest("POST", "/v1/pause", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(header, "https://evil.example")
		w := &recorder{header: http.Header{}}
		a.server.Handler.ServeHTTP(w, req)
		if w.code != http.StatusBadRequest || f.state != session.Running {
			t.Errorf("%s: %d, state %s", header, w.code, f.state)
		}
	}
}

type recorder struct {
	header http.Header
	code   int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *recorder) WriteHeader(code int)        { r.code = code }

func TestUnknownFieldsAreRefused(t *testing.T) {
	f := &fakeEngine{}
	a := newAPI(f, newHub(), slog.New(slog.DiscardHandler))
	req, err := http.NewRequest("POST", "/v1/decisions", strings.NewReader(`{"host":"a","actoin":"allow"}`))
	if err != nil {
		t.Fatal(err)
	}
	w := &recorder{header: http.Header{}}
	a.server.Handler.ServeHTTP(w, req)
	if w.code != http.StatusBadRequest || len(f.decided) != 0 {
		t.Fatalf("%d, %v", w.code, f.decided)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // a dead supervisor's
		t.Fatal(err)
	}
	l, err := listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", fi.Mode(), err)
	}
	if _, err := listen(filepath.Join(dir, strings.Repeat("x", 120)), slog.New(slog.DiscardHandler)); err == nil || session.Hint(err) == "" {
		t.Fatalf("a long path: %v", err)
	}
}
