// Package warm keeps machines that new sessions go on from instead of booting: snapshots in a folder of the installation's own, which are made along the way and thrown
// away as freely.
//
// A template is a machine that has booted and has not been told yet whose it is. A prompt is one in which an agent waits for its first words in a folder. Neither holds
// secrets, since no machine does. What one was made from is in its name, so that whatever changes makes another one.
package warm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
)

// Kind is what is kept; it begins the name.
type Kind string

const (
	Template Kind = "template"
	Prompt   Kind = "prompt"
)

// most is how many of a kind are kept; those that were used longest ago go first.
var most = map[Kind]int{Template: 4, Prompt: 6}

// maxBytes is how much all of a kind may take on disk.
const maxBytes = 6 << 30

// Store is the folder. Any number of programs may use it side by side.
type Store struct{ dir string }

// Open returns the store of an installation.
func Open(p session.Paths) Store { return Store{filepath.Join(p.Data, "warm")} }

// Name is that of what was made from parts, which are what JSON can say.
func Name(kind Kind, parts ...any) (string, error) {
	data, err := json.Marshal(parts)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return string(kind) + "-" + hex.EncodeToString(sum[:16]), nil
}

// Find returns what has this name, or nil when there is none, and takes note that it is used.
func (s Store) Find(name string) (*snapshot.Snapshot, error) {
	kept, err := snapshot.Open(filepath.Join(s.dir, name))
	if errors.Is(err, snapshot.ErrUnknown) {
		return nil, nil
	}
	if err == nil {
		now := time.Now()
		_ = os.Chtimes(kept.Dir, now, now) // or it goes earlier than it need
	}
	return kept, err
}

// Begin begins to make it.
func (s Store) Begin(name string) (*snapshot.Draft, error) { return snapshot.New(s.dir, name) }

// Remove throws it away. Sessions that go on from it have links of their own.
func (s Store) Remove(name string) error { return snapshot.Remove(filepath.Join(s.dir, name), nil) }

// Prune throws away what is broken, what lies on an image that is gone, and what is too much.
func (s Store) Prune(images string) error {
	list, err := snapshot.List(s.dir)
	if err != nil {
		return err
	}
	used := map[string]time.Time{}
	for _, k := range list {
		if info, err := os.Stat(k.Dir); err == nil {
			used[k.Name] = info.ModTime()
		}
	}
	slices.SortStableFunc(list, func(a, b *snapshot.Snapshot) int { return used[b.Name].Compare(used[a.Name]) })
	var errs []error
	count, bytes := map[Kind]int{}, map[Kind]int64{}
	for _, k := range list {
		kind, _, _ := strings.Cut(k.Name, "-")
		_, gone := os.Stat(filepath.Join(images, k.Manifest.Image))
		if k.Broken != nil || gone != nil {
			errs = append(errs, s.Remove(k.Name))
			continue
		}
		count[Kind(kind)]++
		bytes[Kind(kind)] += k.Size()
		if count[Kind(kind)] > most[Kind(kind)] || bytes[Kind(kind)] > maxBytes {
			errs = append(errs, s.Remove(k.Name))
		}
	}
	return errors.Join(errs...)
}
