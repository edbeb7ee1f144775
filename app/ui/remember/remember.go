// Package remember keeps what the window should look like the next time: its size, where its dividers are, and the folders that were used
// last. It is one small JSON file beside the sessions. A file that is missing or damaged gives the defaults: nothing in it is worth an error.
package remember

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// MaxRecent is how many folders are remembered.
const MaxRecent = 8

// State is what is remembered. Sizes are in Fyne's units, offsets fractions of the width.
type State struct {
	Width      float32  `json:"width,omitempty"`
	Height     float32  `json:"height,omitempty"`
	Sidebar    float64  `json:"sidebar,omitempty"`
	Egress     float64  `json:"egress,omitempty"`
	HideEgress bool     `json:"hideEgress,omitempty"`
	FontSize   float32  `json:"fontSize,omitempty"`
	Recent     []string `json:"recent,omitempty"`
}

// File is the state on disk. It may be used from any goroutine.
type File struct {
	path string

	mu    sync.Mutex
	state State
	saved State
}

// Open reads path. An empty path remembers nothing beyond the process.
func Open(path string) *File {
	f := &File{path: path}
	if data, err := os.ReadFile(path); err == nil && len(data) < 1<<20 {
		if json.Unmarshal(data, &f.state) != nil {
			f.state = State{}
		}
	}
	f.state.sane()
	f.saved = f.state
	f.saved.Recent = slices.Clone(f.state.Recent)
	return f
}

// sane drops values that a window could not be opened with.
func (s *State) sane() {
	if s.Width < 480 || s.Width > 16000 || s.Height < 320 || s.Height > 16000 {
		s.Width, s.Height = 0, 0
	}
	if s.Sidebar < 0.05 || s.Sidebar > 0.6 {
		s.Sidebar = 0
	}
	if s.Egress < 0.2 || s.Egress > 0.95 {
		s.Egress = 0
	}
	if s.FontSize < 6 || s.FontSize > 48 {
		s.FontSize = 0
	}
	if len(s.Recent) > MaxRecent {
		s.Recent = s.Recent[:MaxRecent]
	}
}

// State returns what is remembered now.
func (f *File) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Recent = slices.Clone(s.Recent)
	return s
}

// Change alters what is remembered; Save writes it.
func (f *File) Change(change func(*State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// Use puts a folder at the head of the recent ones.
func (f *File) Use(folder string) {
	if folder == "" {
		return
	}
	f.Change(func(s *State) { s.Recent = WithRecent(s.Recent, folder) })
}

// WithRecent returns the list with folder at its head, once, and no longer than MaxRecent.
func WithRecent(list []string, folder string) []string {
	out := []string{folder}
	for _, old := range list {
		if old != folder && len(out) < MaxRecent {
			out = append(out, old)
		}
	}
	return out
}

// Folders returns the recent folders that still exist. It looks at the disk.
func (f *File) Folders() []string {
	var out []string
	for _, dir := range f.State().Recent {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			out = append(out, dir)
		}
	}
	return out
}

// Save writes the state if it has changed, so that a reader or a crash finds the old file or the new one.
func (f *File) Save() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.path == "" || equal(f.state, f.saved) {
		return nil
	}
	data, err := json.MarshalIndent(f.state, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".desktop-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(data, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return err
	}
	f.saved = f.state
	f.saved.Recent = slices.Clone(f.state.Recent)
	return nil
}

func equal(a, b State) bool {
	ra, rb := a.Recent, b.Recent
	a.Recent, b.Recent = nil, nil
	return slices.Equal(ra, rb) && a.Width == b.Width && a.Height == b.Height && a.Sidebar == b.Sidebar && a.Egress == b.Egress &&
		a.HideEgress == b.HideEgress && a.FontSize == b.FontSize
}
