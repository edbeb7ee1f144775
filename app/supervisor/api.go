package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"capsid/app/session"
	"capsid/guest/control"
	"capsid/guest/link"
	"capsid/proxy/ledger"
)

// engine is what the API serves.
type engine interface {
	Status() session.Status
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Snapshot(ctx context.Context, r session.SnapshotRequest) (session.SnapshotResult, error)
	// Suspend returns when the machine is on disk and gone.
	Suspend(ctx context.Context) (session.SnapshotResult, error)
	// Kill returns when the machine is gone.
	Kill(ctx context.Context) error
	DialControl(ctx context.Context) (link.Conn, error)
	Terminals(ctx context.Context) ([]control.TerminalInfo, error)
	// Terminal attaches to a terminal; start runs the agent's command in it if nothing does.
	Terminal(ctx context.Context, spec control.TerminalSpec, start bool) (terminal, error)
	Decide(d session.DecisionRequest) error
	Ledger(q ledger.Query) ([]ledger.Entry, error)
	Blocked() ([]ledger.Group, error)
}

// terminal is one view of a terminal in the guest.
type terminal interface {
	io.ReadWriteCloser
	Resize(cols, rows int) error
	// Exit gives the program's status once and is then closed; it is closed without a value when the view ends first.
	Exit() <-chan int
}

// errNotUp: the session is still starting, or ending.
var errNotUp = &session.Error{Message: "the session is not up", Hint: "capsid ps shows its state", Kind: session.ErrNotRunning}

// maxBody bounds the body of a request.
const maxBody = 1 << 20

// api serves the session's API; see package session for its routes.
type api struct {
	engine engine
	hub    *hub
	log    *slog.Logger
	server *http.Server
	// ended is cancelled when the server shuts down: streams and terminals end with it.
	ended context.Context
	end   context.CancelFunc
}

func newAPI(e engine, h *hub, log *slog.Logger) *api {
	a := &api{engine: e, hub: h, log: log}
	a.ended, a.end = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { reply(w, e.Status(), nil) })
	mux.HandleFunc("GET /v1/events", a.events)
	mux.HandleFunc("POST /v1/pause", func(w http.ResponseWriter, r *http.Request) { err := e.Pause(r.Context()); reply(w, e.Status(), err) })
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, r *http.Request) { err := e.Resume(r.Context()); reply(w, e.Status(), err) })
	mux.HandleFunc("POST /v1/snapshots", func(w http.ResponseWriter, r *http.Request) {
		var ask session.SnapshotRequest
		if body(w, r, &ask) {
			done, err := e.Snapshot(r.Context(), ask)
			reply(w, done, err)
		}
	})
	mux.HandleFunc("POST /v1/suspend", func(w http.ResponseWriter, r *http.Request) {
		done, err := e.Suspend(r.Context())
		reply(w, done, err)
	})
	mux.HandleFunc("POST /v1/kill", func(w http.ResponseWriter, r *http.Request) { err := e.Kill(r.Context()); reply(w, e.Status(), err) })
	mux.HandleFunc("GET /v1/control", a.control)
	mux.HandleFunc("GET /v1/terminals", func(w http.ResponseWriter, r *http.Request) {
		list, err := e.Terminals(r.Context())
		reply(w, list, err)
	})
	mux.HandleFunc("POST /v1/terminals", a.openTerminal)
	mux.HandleFunc("GET /v1/terminals/{name}", a.terminal)
	mux.HandleFunc("POST /v1/decisions", func(w http.ResponseWriter, r *http.Request) {
		var d session.DecisionRequest
		if body(w, r, &d) {
			reply(w, struct{}{}, e.Decide(d))
		}
	})
	mux.HandleFunc("GET /v1/ledger", a.ledger)
	mux.HandleFunc("GET /v1/blocked", func(w http.ResponseWriter, r *http.Request) {
		groups, err := e.Blocked()
		reply(w, groups, err)
	})
	a.server = &http.Server{Handler: local(mux), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	return a
}

// local refuses what a browser sends for a page: whoever forwards this socket to a TCP port must not open it to every website.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			reply(w, nil, &session.Error{Message: "not for web pages"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serve answers on l until shutdown.
func (a *api) serve(l net.Listener) {
	if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		a.log.Error("the API ended", "error", err)
	}
}

// shutdown lets the streams of events deliver what is queued, ends everything else and returns when all are done or the time is up.
func (a *api) shutdown(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	a.hub.close()
	a.end()
	a.server.Shutdown(ctx)
	a.server.Close()
}

// reply writes v, or err with the status that fits it.
func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusBadRequest
		if errors.Is(err, session.ErrNotRunning) {
			code = http.StatusConflict
		}
		w.WriteHeader(code)
		v = session.APIError{Error: err.Error(), Hint: session.Hint(err)}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(v) // a client that is gone needs no answer
}

// body reads the request's JSON strictly, or answers why not.
func body(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		reply(w, nil, &session.Error{Message: "the request's body", Err: err})
		return false
	}
	return true
}

func (a *api) ledger(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Blocked: r.FormValue("blocked") == "1", Host: r.FormValue("host")}
	for name, set := range map[string]func(int64){
		"after": func(n int64) { q.After = n },
		"limit": func(n int64) { q.Limit = int(min(n, 100_000)) },
	} {
		v := r.FormValue(name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			reply(w, nil, &session.Error{Message: name + " must be a number"})
			return
		}
		set(n)
	}
	list, err := a.engine.Ledger(q)
	reply(w, list, err)
}

// events streams the hub's events as server-sent events.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	f := a.hub.subscribe()
	defer f.unsubscribe()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	for {
		events, more := f.take()
		for _, e := range events {
			data, err := json.Marshal(e)
			if err != nil {
				a.log.Error("event", "error", err)
				continue
			}
			if _, err := io.WriteString(w, "event: "+string(e.Kind)+"\ndata: "+string(data)+"\n\n"); err != nil {
				return
			}
		}
		if err := out.Flush(); err != nil || !more {
			return
		}
		select {
		case <-f.wake:
		case <-r.Context().Done():
			return
		}
	}
}
