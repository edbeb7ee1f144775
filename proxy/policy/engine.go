package policy

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Engine holds the policy in force and takes up changes of its files.
type Engine struct {
	paths   Paths
	reload  sync.Mutex // one at a time, so that an older read never replaces a newer one
	current atomic.Pointer[Policy]

	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// Open loads the files; a fault in any is an error, so that nothing starts under half a policy.
func Open(paths Paths) (*Engine, error) {
	e := &Engine{paths: paths}
	return e, e.Reload()
}

// Current returns the policy in force.
func (e *Engine) Current() *Policy { return e.current.Load() }

// Paths returns where the policy is read from.
func (e *Engine) Paths() Paths { return e.paths }

// Reload reads the files anew. On a fault the policy in force stays.
func (e *Engine) Reload() error {
	e.reload.Lock()
	defer e.reload.Unlock()
	p, err := Load(e.paths)
	if err != nil {
		return err
	}
	e.current.Store(p)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
	return nil
}

// Changed returns a channel that is closed when the policy in force is next replaced.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.changed
}

// settle is how long a file must be quiet before it is read: editors write in several steps.
const settle = 50 * time.Millisecond

// Watch reloads whenever one of the files changes, until ctx ends, and tells report of each reload: nil, or why the old policy stays.
// The folders are watched rather than the files, since editors rename a new file over the old. The person's own are made if they are missing,
// so that a first user.toml is seen.
func (e *Engine) Watch(ctx context.Context, report func(error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	files := map[string]bool{}
	for _, f := range []string{e.paths.Corp, e.paths.Session, e.paths.User, e.paths.SessionDecisions, e.paths.Decisions} {
		if f == "" {
			continue
		}
		files[filepath.Clean(f)] = true
		if f != e.paths.Corp {
			if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
				return err
			}
		}
		if err := w.Add(filepath.Dir(f)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	// Something may have changed between Open and now.
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-w.Events:
			if !ok {
				return nil
			}
			if files[filepath.Clean(ev.Name)] && !ev.Has(fsnotify.Chmod) {
				quiet.Reset(settle)
			}
		case err, ok := <-w.Errors:
			if !ok {
				return nil
			}
			report(err)
			quiet.Reset(settle) // events may have been lost: look
		case <-quiet.C:
			report(e.Reload())
		}
	}
}
