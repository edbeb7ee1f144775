package ui

import (
	"context"
	"errors"

	"capsid/app/session"
)

// start makes a session, after an image has been built where there is none.
func (w *Window) start(a Agent, opts session.StartOptions) {
	w.spawn(func() {
		_, err := w.engine.Image()
		w.do(func() {
			if errors.Is(err, ErrNoImage) {
				w.offerImage(func() { w.start(a, opts) })
				return
			}
			// Any other fault of the image is told by the start itself, with the next step.
			w.startNow(a, opts)
		})
	})
}

func (w *Window) startNow(a Agent, opts session.StartOptions) {
	w.memory.Use(opts.Workspace)
	ctx, cancel := context.WithCancel(w.ctx)
	w.note("Starting "+a.Title+"…", false)
	w.spawn(func() {
		defer cancel()
		if err := w.memory.Save(); err != nil {
			w.log.Warn("recent folders are not remembered", "error", err)
		}
		var id string
		st, err := w.engine.Start(ctx, opts, func(st session.Status) {
			id = st.ID
			w.do(func() { w.starting(st, cancel) })
		})
		w.do(func() { w.started(a, opts, id, st, err) })
	})
}

// starting follows the start of a session that this window makes.
func (w *Window) starting(st session.Status, cancel context.CancelFunc) {
	s := w.sessions[st.ID]
	isNew := s == nil
	s = w.session(st)
	s.cancel = cancel
	w.update(s, st)
	if isNew || !w.hasPane(s) {
		w.openSession(st.ID)
	}
	w.showSessions()
}

// started takes up how a start has gone.
func (w *Window) started(a Agent, opts session.StartOptions, id string, st session.Status, err error) {
	s := w.sessions[id]
	if s != nil {
		s.cancel = nil
	}
	if err == nil {
		if s == nil {
			s = w.session(st)
		}
		w.update(s, st)
		w.openSession(st.ID)
		w.note(st.Name+" is ready", false)
		w.spawn(w.reload)
		return
	}
	if errors.Is(err, context.Canceled) {
		if s != nil {
			w.drop(s)
		}
		w.note("The start was cancelled", false)
		w.showSessions()
		return
	}
	w.note("", false)
	if errors.Is(err, session.ErrWide) {
		w.confirm("Share all of "+opts.Workspace+"?", "This folder holds far more than one project. "+a.Title+" would see all of it, read-only. A folder of one project is the better choice.",
			"Share it read-only", plain, func() {
				opts.AcceptWide = true
				w.start(a, opts)
			})
		return
	}
	if s == nil {
		w.showError(a.Title+" could not start", err, func() { w.newSessionIn(a, opts.Workspace) })
		return
	}
	// The store has taken the session away again; what is known of it stays in its tab until that is closed.
	if st.ID == "" {
		st = s.st
	}
	s.ghost = true
	st.State, st.Error, st.Hint = session.Failed, err.Error(), session.Hint(err)
	w.update(s, st)
	w.showSessions()
	w.showProblem(st.Name+" could not start", st.Error, st.Hint, st.Console, func() { w.closeFailed(s); w.start(a, opts) })
}

func (w *Window) closeFailed(s *live) { w.drop(s); w.showSessions() }

// cancelStart ends a start that is under way.
func (w *Window) cancelStart(s *live) {
	if s.cancel != nil {
		s.cancel()
		return
	}
	w.askStop(s) // another program starts it
}
