package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"capsid/app/session"
	"capsid/guest/verified"
)

// Snapshot is one that has its name.
type Snapshot struct {
	Dir      string
	Name     string
	Manifest Manifest
	// Broken says why it cannot be restored, of those that List finds; the manifest is empty then.
	Broken error
}

// Ref is what others call it, by the folder that it lies in: sessions/<id>/snapshots/<name>.
func (s *Snapshot) Ref() Ref {
	return Ref{Session: filepath.Base(filepath.Dir(filepath.Dir(s.Dir))), Snapshot: s.Name}
}

// Path is that of one of its files.
func (s *Snapshot) Path(file string) string { return filepath.Join(s.Dir, file) }

// Disks are the paths of each writable disk's layers, from the bottom to the top.
func (s *Snapshot) Disks() [][]string {
	out := make([][]string, len(s.Manifest.Disks))
	for i, layers := range s.Manifest.Disks {
		for _, name := range layers {
			out[i] = append(out[i], s.Path(name))
		}
	}
	return out
}

// Open reads a snapshot's manifest and sees that the folder has its files, in their sizes, and nothing else. It reads none of them: that is what Verify does.
// The errors are ErrUnknown, ErrDamaged and ErrNewer.
func Open(dir string) (*Snapshot, error) {
	name := filepath.Base(dir)
	if !validName(name) {
		return nil, CheckName(name)
	}
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, unknown(name)
	case err != nil:
		return nil, fmt.Errorf("snapshot %q: %w", name, err)
	case !info.IsDir():
		return nil, damaged(name, name, "not a folder")
	}
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Dir: dir, Name: name, Manifest: *m}
	if err := s.checkFolder(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Snapshot) checkFolder() error {
	names, err := fileNames(s.Dir, maxFiles)
	if err != nil {
		return fmt.Errorf("snapshot %q: %w", s.Name, err)
	}
	for _, name := range names {
		if _, ok := s.Manifest.Files[name]; !ok {
			// Whoever restores may look for files by their names.
			return damaged(s.Name, fmt.Sprintf("%.80q", name), manifestFile+" does not know this file")
		}
	}
	for _, j := range s.jobs() {
		info, err := os.Lstat(s.Path(j.name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return damaged(s.Name, j.name, "missing")
		case err != nil:
			return fmt.Errorf("snapshot %q: %w", s.Name, err)
		case !info.Mode().IsRegular():
			return damaged(s.Name, j.name, errNotPlain.Error())
		case info.Size() != j.Size:
			return damaged(s.Name, j.name, sizes(info.Size(), j.Size))
		}
	}
	return nil
}

func sizes(is, want int64) string { return fmt.Sprintf("%d bytes, should be %d", is, want) }

// jobs are the files by name.
func (s *Snapshot) jobs() []job {
	var out []job
	for name, f := range s.Manifest.Files {
		out = append(out, job{name: name, File: f})
	}
	slices.SortFunc(out, func(a, b job) int { return strings.Compare(a.name, b.name) })
	return out
}

// Verify reads every file and compares it with the manifest: ErrDamaged names the first that differs. Its cost is that of reading and hashing the data; holes cost nothing.
// progress, which may be nil, is told the bytes read, by one goroutine at a time.
func (s *Snapshot) Verify(ctx context.Context, progress func(done, total int64)) error {
	if s.Broken != nil {
		return s.Broken
	}
	if err := s.checkFolder(); err != nil {
		return err
	}
	jobs := s.jobs()
	for i, j := range jobs {
		jobs[i].cost = j.Size
		if info, err := os.Lstat(s.Path(j.name)); err == nil {
			jobs[i].cost = min(j.Size, inodeOf(info).bytes)
		}
	}
	return each(ctx, jobs, progress, s.verify)
}

func (s *Snapshot) verify(ctx context.Context, j job, read func(int64)) error {
	f, err := openPlain(s.Path(j.name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return damaged(s.Name, j.name, "missing")
	case errors.Is(err, errNotPlain):
		return damaged(s.Name, j.name, err.Error())
	case err != nil:
		return fmt.Errorf("verify snapshot %q: %w", s.Name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("verify snapshot %q: %w", s.Name, err)
	}
	if info.Size() != j.Size {
		return damaged(s.Name, j.name, sizes(info.Size(), j.Size))
	}
	sum, err := digest(ctx, f, j.File, read)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return damaged(s.Name, j.name, "it ends too early")
	case err != nil:
		return fmt.Errorf("verify snapshot %q: %s: %w", s.Name, j.name, err)
	case sum != j.SHA256:
		return damaged(s.Name, j.name, "its SHA-256 is "+sum[:12]+"…, should be "+j.SHA256[:12]+"…")
	}
	return nil
}

// List returns the snapshots of a session, the oldest first, those that are broken with the reason before them; what killed programs left is removed. A folder that does not
// exist has none.
func List(folder string) ([]*Snapshot, error) {
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	// Somebody may list what they may not write.
	if mutex, err := lockFolder(folder); err == nil {
		sweep(folder)
		mutex.Close()
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var list []*Snapshot
	for _, e := range entries {
		if !e.IsDir() || !validName(e.Name()) {
			continue
		}
		dir := filepath.Join(folder, e.Name())
		s, err := Open(dir)
		if errors.Is(err, ErrUnknown) {
			continue // removed meanwhile
		}
		if err != nil {
			s = &Snapshot{Dir: dir, Name: e.Name(), Broken: err}
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *Snapshot) int {
		if c := a.Manifest.Created.Compare(b.Manifest.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list, nil
}

// Find returns the snapshot of a session that has this name, or whose name alone begins so. A broken one is an error.
func Find(folder, key string) (*Snapshot, error) {
	s, err := Lookup(folder, key)
	if err == nil && s.Broken != nil {
		return nil, s.Broken
	}
	return s, err
}

// Lookup is Find, but returns broken ones too: they can be removed.
func Lookup(folder, key string) (*Snapshot, error) {
	list, err := List(folder)
	if err != nil {
		return nil, err
	}
	var found []*Snapshot
	for _, s := range list {
		if s.Name == key {
			found = []*Snapshot{s}
			break
		}
		if key != "" && strings.HasPrefix(s.Name, key) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0:
		return nil, unknown(key)
	case len(found) > 1:
		var names []string
		for _, s := range found {
			names = append(names, s.Name)
		}
		return nil, &session.Error{Message: fmt.Sprintf("%q could be any of %s", key, strings.Join(names, ", ")), Hint: "write more of it", Kind: ErrUnknown}
	}
	return found[0], nil
}

// FreeName is the first of prefix1, prefix2 and so on that none of a session's snapshots has.
func FreeName(list []*Snapshot, prefix string) string {
	for n := 1; ; n++ {
		name := fmt.Sprint(prefix, n)
		if !slices.ContainsFunc(list, func(s *Snapshot) bool { return s.Name == name }) {
			return name
		}
	}
}

// VerifyOnce is Verify, but for a snapshot that was verified before and was not written to since; see package verified.
func (s *Snapshot) VerifyOnce(ctx context.Context, p session.Paths, progress func(done, total int64)) error {
	return verified.Once(s.record(p), s.paths(), verified.Write, func() error { return s.Verify(ctx, progress) })
}

// MarkVerified records that a snapshot is as its manifest says: Commit has just read it.
func (s *Snapshot) MarkVerified(p session.Paths) {
	verified.Mark(s.record(p), s.paths(), verified.Write)
}

func (s *Snapshot) record(p session.Paths) string {
	ref := s.Ref()
	return filepath.Join(p.Runtime, "verified-"+ref.Session+"-"+ref.Snapshot)
}

func (s *Snapshot) paths() []string {
	paths := []string{s.Path(manifestFile)}
	for name := range s.Manifest.Files {
		paths = append(paths, s.Path(name))
	}
	return paths
}
