package supervisor

import (
	"context"
	"io"
	"time"

	"capsid/app/session"
	"capsid/guest/control"
	"capsid/guest/link"
)

// isUp reports whether the session runs, paused or not.
func (s *Supervisor) isUp() bool {
	select {
	case <-s.up:
	default:
		return false
	}
	select {
	case <-s.machine.Done():
		return false
	default:
		return true
	}
}

// Status returns the session as it is now.
func (s *Supervisor) Status() session.Status { return s.state.get() }

// Pause stops the machine's processors.
func (s *Supervisor) Pause(ctx context.Context) error { return s.setPaused(ctx, true) }

// Resume lets them run again.
func (s *Supervisor) Resume(ctx context.Context) error { return s.setPaused(ctx, false) }

func (s *Supervisor) setPaused(ctx context.Context, paused bool) error {
	if !s.isUp() {
		return errNotUp
	}
	s.pausing.Lock()
	defer s.pausing.Unlock()
	do, state := s.machine.Resume, session.Running
	if paused {
		do, state = s.machine.Pause, session.Paused
	}
	if err := do(ctx); err != nil {
		return err
	}
	if !paused {
		// Its clock stood still. A guest that does not answer is no reason to call it paused.
		ctx, cancel := context.WithTimeout(ctx, clockTime)
		defer cancel()
		if err := s.control.SetClock(ctx, time.Now()); err != nil {
			s.log.Warn("set the clock after a pause", "error", err)
		}
	}
	s.state.change(func(st *session.Status) {
		if st.State == session.Running || st.State == session.Paused {
			st.State = state
		}
	})
	return nil
}

// Kill ends the session and waits until its machine is gone.
func (s *Supervisor) Kill(ctx context.Context) error {
	s.killOnce.Do(func() { close(s.kill) })
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errPaused: the guest cannot answer.
var errPaused = &session.Error{Message: "the session is paused", Hint: "capsid resume lets it go on"}

// awake refuses what only a machine that runs can answer.
func (s *Supervisor) awake() error {
	if !s.isUp() {
		return errNotUp
	}
	if s.state.get().State == session.Paused {
		return errPaused
	}
	return nil
}

// DialControl opens a stream to the guest's control port.
func (s *Supervisor) DialControl(ctx context.Context) (link.Conn, error) {
	if err := s.awake(); err != nil {
		return nil, err
	}
	return s.machine.Dial(ctx, link.Control)
}

// Terminals lists the guest's terminals; those of a paused machine as they were last seen.
func (s *Supervisor) Terminals(ctx context.Context) ([]control.TerminalInfo, error) {
	if err := s.awake(); err != nil {
		if err == errPaused {
			return s.state.get().Terminals, nil
		}
		return nil, err
	}
	return s.lookAtTerminals(ctx)
}

// lookAtTerminals asks the guest, and keeps the answer in the status.
func (s *Supervisor) lookAtTerminals(ctx context.Context) ([]control.TerminalInfo, error) {
	list, err := s.control.Terminals(ctx)
	if err != nil {
		return nil, err
	}
	list = cleanTerminals(list)
	for i := range list {
		if s.watched(list[i].Name) && list[i].Clients > 0 {
			list[i].Clients-- // our own view is nobody's
		}
	}
	s.state.change(func(st *session.Status) { st.Terminals = list })
	return list, nil
}

// Terminal attaches to a terminal, or starts it.
func (s *Supervisor) Terminal(ctx context.Context, spec control.TerminalSpec, start bool) (terminal, error) {
	if err := s.awake(); err != nil {
		return nil, err
	}
	if start && len(spec.Command) == 0 {
		spec = s.mainSpec(spec)
	}
	if spec.Dir == "" {
		spec.Dir = s.dir(s.user)
	}
	t, err := s.control.Terminal(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.watchTerminal(spec.Name)
	if spec.Name == session.MainTerminal {
		return typing{t, s.prompt}, nil
	}
	return t, nil
}

// mainSpec makes of spec a terminal with the agent's program.
func (s *Supervisor) mainSpec(spec control.TerminalSpec) control.TerminalSpec {
	spec.Command = s.agent.CommandLine(s.sess.Autonomous)
	spec.Dir = s.dir(s.user)
	return spec
}

// watchTerminal keeps a view of a terminal for as long as its program runs, so that the status tells when it has ended.
func (s *Supervisor) watchTerminal(name string) {
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	if s.views[name] {
		return
	}
	s.views[name] = true
	s.tasks.Go(func() {
		// The connection to the guest ends with the session, and this with it.
		ctx, cancel := context.WithTimeout(context.Background(), setupTime)
		defer cancel()
		// No size: this view must not resize the terminal for those who look at it.
		t, err := s.control.Terminal(ctx, control.TerminalSpec{Name: name})
		if err == nil {
			s.lookAtTerminals(ctx)
			var out io.Writer = io.Discard
			if name == session.MainTerminal {
				out = s.prompt
			}
			io.Copy(out, t)
			t.Close()
		}
		s.viewsMu.Lock()
		delete(s.views, name)
		s.viewsMu.Unlock()
		ctx, cancel = context.WithTimeout(context.Background(), setupTime)
		defer cancel()
		s.lookAtTerminals(ctx)
	})
}

func (s *Supervisor) watched(name string) bool {
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	return s.views[name]
}
