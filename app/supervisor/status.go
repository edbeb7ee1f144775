package supervisor

import (
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"capsid/app/session"
)

// keeper holds the session's status and tells of each change: the folder first, then the hub.
type keeper struct {
	mu     sync.Mutex
	status session.Status
	file   string
	hub    *hub
	log    *slog.Logger
}

func newKeeper(st session.Status, folder string, h *hub, log *slog.Logger) *keeper {
	k := &keeper{status: st, file: filepath.Join(folder, "status.json"), hub: h, log: log}
	k.change(func(*session.Status) {})
	return k
}

// get returns a copy.
func (k *keeper) get() session.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return clone(k.status)
}

func clone(st session.Status) session.Status {
	st.Steps = slices.Clone(st.Steps)
	st.Terminals = slices.Clone(st.Terminals)
	st.Defences = slices.Clone(st.Defences)
	st.Console = slices.Clone(st.Console)
	if st.Work != nil {
		work := *st.Work
		st.Work = &work
	}
	return st
}

// change edits the status under the lock.
func (k *keeper) change(edit func(*session.Status)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	edit(&k.status)
	// A full disk must not end a session that runs: the API still tells the truth.
	if err := session.WriteJSON(k.file, k.status); err != nil {
		k.log.Error("write the status", "error", err)
	}
	// After the folder: who is told that the session runs must find it so there.
	k.hub.status(clone(k.status))
}

// step shows that a step has begun; the func that it returns shows how it goes on, and end ends it.
func (k *keeper) step(name string) (detail func(string), end func()) {
	begun := time.Now()
	var at int
	k.change(func(st *session.Status) {
		at = len(st.Steps)
		st.Steps = append(st.Steps, session.Step{Name: name})
	})
	detail = func(text string) {
		k.change(func(st *session.Status) { st.Steps[at].Detail = text })
	}
	end = func() {
		took := time.Since(begun)
		k.log.Info("step", "name", name, "took", took)
		k.change(func(st *session.Status) { st.Steps[at].Done, st.Steps[at].Duration = true, took })
	}
	return detail, end
}

// work shows something that takes long, and returns what shows how it goes on: each stage, and each hundredth of one.
func (k *keeper) work(name string) (stage func(name string, done, total int64)) {
	var shown session.Work
	return func(stage string, done, total int64) {
		next := session.Work{Name: name, Stage: stage, Done: done, Total: total}
		if next.Stage == shown.Stage && total == shown.Total && (total <= 0 || done-shown.Done < total/100) {
			return
		}
		shown = next
		k.change(func(st *session.Status) { st.Work = &next })
	}
}

// idle shows that it is over.
func (k *keeper) idle() { k.change(func(st *session.Status) { st.Work = nil }) }

// unwinding is what must be taken down, in the order in which it came up.
type unwinding struct {
	mu    sync.Mutex
	parts []func()
}

func (u *unwinding) add(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts = append(u.parts, f)
}

// mark is how much is up, for runTo.
func (u *unwinding) mark() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.parts)
}

// run takes everything down, the last first. Another call finds nothing left.
func (u *unwinding) run() { u.runTo(0) }

// runTo takes down what came up since a mark.
func (u *unwinding) runTo(mark int) {
	u.mu.Lock()
	parts := slices.Clone(u.parts[min(mark, len(u.parts)):])
	u.parts = u.parts[:min(mark, len(u.parts))]
	u.mu.Unlock()
	for _, f := range slices.Backward(parts) {
		f()
	}
}
