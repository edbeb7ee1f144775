package session

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// lookAgain is how often Watch looks for supervisors that ended without a trace in their folder: the kernel tells nobody who lets go of a lock.
const lookAgain = 3 * time.Second

// Watch tells of changes in the set of sessions and in their states: after each value List may answer differently. Several changes may come as
// one. The channel is closed when ctx ends.
func (s *Store) Watch(ctx context.Context) (<-chan struct{}, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.Add(s.paths.Sessions()); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch sessions: %w", err)
	}
	out := make(chan struct{}, 1)
	tell := func() {
		select {
		case out <- struct{}{}:
		default:
		}
	}
	go func() {
		defer close(out)
		defer w.Close()
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		living := s.living(w)
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-w.Events:
				if !ok {
					return
				}
				switch {
				case filepath.Dir(e.Name) == s.paths.Sessions() && idPattern.MatchString(filepath.Base(e.Name)):
					living = s.living(w)
					tell()
				case filepath.Base(e.Name) == "status.json":
					tell()
				}
			case <-w.Errors:
				living = s.living(w)
				tell() // events may be lost: look
			case <-tick.C:
				if now := s.living(w); !same(living, now) {
					living = now
					tell()
				}
			}
		}
	}()
	return out, nil
}

// living returns the sessions that have a supervisor, and sees to it that all folders are watched.
func (s *Store) living(w *fsnotify.Watcher) map[string]bool {
	entries, err := os.ReadDir(s.paths.Sessions())
	if err != nil {
		return nil
	}
	out := map[string]bool{}
	for _, e := range entries {
		if !idPattern.MatchString(e.Name()) {
			continue
		}
		folder := s.paths.Folder(e.Name())
		w.Add(folder) // adding twice changes nothing; one that is gone is no loss
		out[e.Name()] = alive(folder)
	}
	return out
}

func same(a, b map[string]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}
