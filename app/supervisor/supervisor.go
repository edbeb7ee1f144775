package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"capsid/app/session"
	"capsid/assets"
	"capsid/guest/control"
	"capsid/proxy"
	"capsid/proxy/ca"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
	"capsid/vmm"
)

// Config says which session to supervise, and with what.
type Config struct {
	Paths      session.Paths
	ID         string
	Lock       *os.File       // the session's lock, held
	Ready      io.WriteCloser // told as session.ReadyFD says, then closed
	Executable string         // the capsid program, for the share's process
	Backends   []vmm.Backend  // the best first
	Version    string         // of the program
	Log        *slog.Logger
}

// Supervisor is one running session.
type Supervisor struct {
	cfg    Config
	log    *slog.Logger
	sess   session.Session
	folder string
	agent  assets.Agent
	hub    *hub
	state  *keeper
	down   unwinding

	suspended chan string // gets the snapshot that the session is to end with
	keptAs    string      // that snapshot, once the session ends

	killOnce sync.Once
	kill     chan struct{}   // closed when the session is asked to end
	gone     chan struct{}   // closed when the machine is gone, or never came
	ending   context.Context // is done when the session is to end

	// Set before the API is served.
	policy *policy.Engine
	ledger *ledger.Ledger
	// Set while the session comes up, before up is closed.
	up        chan struct{}
	backend   vmm.Backend
	machine   vmm.Machine
	share     *shareServer // nil without a workspace
	proxy     *proxy.Proxy
	authority *ca.Authority
	control   *control.Client
	user      control.User
	// lockdown is what the guest said of its own walls.
	lockdown []string

	pausing sync.Mutex // one at a time
	viewsMu sync.Mutex
	views   map[string]bool // terminals that are watched for their end
	prompt  *prompt
	tasks   sync.WaitGroup
}

// The limits of a session's ends. They are long: a loaded computer is no reason to lose what the guest has not written yet.
const (
	bootTime    = 5 * time.Minute
	connectTime = time.Minute // of a machine that had booted before
	setupTime   = 2 * time.Minute
	powerTime   = 15 * time.Second
	clockTime   = 5 * time.Second
	farewell    = 3 * time.Second // for clients to take the last events
	sampleEvery = 500 * time.Millisecond
)

// Run supervises a session from its start to its end. An error means that it failed; its status in the folder says so too.
func Run(ctx context.Context, cfg Config) error {
	s := &Supervisor{
		cfg: cfg, log: cfg.Log, folder: cfg.Paths.Folder(cfg.ID), hub: newHub(),
		suspended: make(chan string, 1), kill: make(chan struct{}), gone: make(chan struct{}), up: make(chan struct{}), views: map[string]bool{}, prompt: newPrompt(),
	}
	data, err := os.ReadFile(filepath.Join(s.folder, "session.json"))
	if err == nil {
		err = json.Unmarshal(data, &s.sess)
	}
	if err == nil {
		err = session.WritePID(cfg.Lock)
	}
	if err != nil {
		return tellReady(cfg.Ready, fmt.Errorf("open session: %w", err))
	}
	s.state = newKeeper(session.Status{Session: s.sess, State: session.Starting, PID: os.Getpid(), Started: time.Now().UTC()}, s.folder, s.hub, s.log)
	defer s.down.run()
	if s.user, err = GuestUser(); err != nil {
		s.end(err)
		return tellReady(cfg.Ready, err)
	}
	if err := s.openPolicy(); err != nil {
		s.end(err)
		return tellReady(cfg.Ready, err)
	}
	socket := cfg.Paths.Socket(cfg.ID)
	l, err := listen(socket, s.log)
	if err != nil {
		s.end(err)
		return tellReady(cfg.Ready, fmt.Errorf("serve the API: %w", err))
	}
	api := newAPI(s, s.hub, s.log)
	var serving sync.WaitGroup
	serving.Go(func() { api.serve(l) })
	defer serving.Wait()
	defer os.Remove(socket)
	defer api.shutdown(farewell)
	tellReady(cfg.Ready, nil)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ending = ctx
	go func() {
		select {
		case <-s.kill:
			cancel()
		case <-ctx.Done():
		}
	}()
	err = s.start(ctx)
	if err == nil {
		err = s.run(ctx)
	}
	cancel()
	s.down.run()
	s.tasks.Wait()
	s.end(err)
	close(s.gone)
	if errors.Is(err, context.Canceled) {
		return nil // asked to
	}
	return err
}

// tellReady reports to whoever started this process, and returns err.
func tellReady(w io.WriteCloser, err error) error {
	if w == nil {
		return err
	}
	var e session.APIError
	if err != nil {
		e = session.APIError{Error: err.Error(), Hint: session.Hint(err)}
	}
	json.NewEncoder(w).Encode(e) // a starter that is gone needs no answer
	w.Close()
	return err
}

// run waits for the end of a session that is up: in order (nil), or by a crash.
func (s *Supervisor) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		s.powerOff()
		return nil
	case s.keptAs = <-s.suspended:
		s.log.Info("suspended", "snapshot", s.keptAs)
		return nil
	case <-s.machine.Done():
		err := s.machine.Err()
		if err == nil {
			s.log.Info("the guest powered off")
			return nil
		}
		return &session.Error{Message: "the machine crashed", Err: err, Hint: "its work in the workspace is safe; capsid rm " + s.sess.Name + " removes the session, capsid new starts another"}
	}
}

// powerOff asks the guest to end in order; the unwinding ends it otherwise.
func (s *Supervisor) powerOff() {
	ctx, cancel := context.WithTimeout(context.Background(), powerTime)
	defer cancel()
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if err := s.machine.Resume(ctx); err != nil {
		s.log.Warn("resume before the end", "error", err)
		return
	}
	if err := s.control.PowerOff(ctx); err != nil && ctx.Err() == nil {
		s.log.Info("power off", "error", err) // the connection ends with the guest
	}
	select {
	case <-s.machine.Done():
	case <-ctx.Done():
		s.log.Warn("the guest did not power off in time")
	}
}

// end writes the last status.
func (s *Supervisor) end(err error) {
	s.state.change(func(st *session.Status) {
		st.Ended, st.PID = time.Now().UTC(), 0
		st.State = session.Stopped
		for i := range st.Terminals {
			st.Terminals[i].Running, st.Terminals[i].Clients = false, 0
		}
		st.Work, st.Suspended = nil, s.keptAs
		if s.keptAs != "" {
			st.State = session.Suspended
		}
		if err == nil || errors.Is(err, context.Canceled) {
			return
		}
		s.log.Error("the session failed", "error", err)
		// One line: the console's lines, which some errors carry too, have a field of their own.
		text, _, _ := strings.Cut(err.Error(), "\n")
		st.State, st.Error, st.Hint = session.Failed, strings.TrimSuffix(text, "; the console's last lines:"), session.Hint(err)
		if s.machine != nil {
			st.Console = s.machine.Console(consoleLines)
		}
	})
}

// consoleLines are kept of a failed machine.
const consoleLines = 20
