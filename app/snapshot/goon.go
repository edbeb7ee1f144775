package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"capsid/app/session"
	"capsid/vmm/disk"
)

// Options say how sessions go on from a snapshot.
type Options struct {
	Executable string // the capsid program; empty: the one beside the running program
	// OnStatus, which may be nil, sees each change of each session, by one goroutine at a time.
	OnStatus func(session.Status)
}

// MaxForks is how many sessions one call of Fork makes.
const MaxForks = 16

// Restore brings a session back to a snapshot, mostly one of its own: what it did since is gone, but for its other snapshots and its ledger. A session that runs is refused
// with session.ErrAlive. When it does not come up, or ctx ends first, it is as it was before.
func Restore(ctx context.Context, store *session.Store, id string, s *Snapshot, o Options) (session.Status, error) {
	if s.Broken != nil {
		return session.Status{}, s.Broken
	}
	st, err := store.Find(id)
	if err != nil {
		return st, err
	}
	return store.GoOn(ctx, goingOn(st.Session, s), o.Executable, func(folder string) (func(bool) error, error) { return replaceDisk(ctx, folder, s) }, o.OnStatus)
}

// Fork makes count new sessions that go on from a snapshot, each with an identity of its own. name is that of the only one, or what the names of several begin with; empty: that of
// the parent session with -fork. Those that came up are returned also with an error, which says of the others why they did not.
func Fork(ctx context.Context, store *session.Store, s *Snapshot, count int, name string, o Options) ([]session.Status, error) {
	if s.Broken != nil {
		return nil, s.Broken
	}
	if count < 1 || count > MaxForks {
		return nil, &session.Error{Message: fmt.Sprintf("%d forks", count), Hint: fmt.Sprintf("make 1 to %d at once", MaxForks)}
	}
	// The settings are those of the session that it was taken of, as they are now: the manifest is no authority for what a machine may do.
	parent, err := store.Find(s.Ref().Session)
	if err != nil {
		return nil, err
	}
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		up   = make([]*session.Status, count)
		errs = make([]error, count)
	)
	told := func(st session.Status) {
		mu.Lock()
		defer mu.Unlock()
		if o.OnStatus != nil {
			o.OnStatus(st)
		}
	}
	turns := make(chan struct{}, maxTogether)
	for i := range count {
		sess := goingOn(parent.Session, s)
		sess.ID, sess.Name = "", name
		if name != "" && count > 1 {
			sess.Name = fmt.Sprintf("%s-%d", name, i+1)
		}
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			st, err := store.Branch(ctx, sess, o.Executable, func(folder string) error { return LinkDisk(ctx, folder, s) }, told)
			if err != nil {
				errs[i] = err
				return
			}
			up[i] = &st
		})
	}
	all.Wait()
	var list []session.Status
	for _, st := range up {
		if st != nil {
			list = append(list, *st)
		}
	}
	return list, inOneLine(errs)
}

// inOneLine joins errors as the one line that a person gets, each text once, with the first one's next step.
func inOneLine(errs []error) error {
	var texts []string
	var first error
	for _, err := range errs {
		if err == nil || slices.Contains(texts, err.Error()) {
			continue
		}
		if texts = append(texts, err.Error()); first == nil {
			first = err
		}
	}
	if len(texts) < 2 {
		return first
	}
	return &session.Error{Message: strings.Join(texts, "; "), Hint: session.Hint(first), Kind: first}
}

// maxTogether is how many forks come up at the same time.
const maxTogether = 4

// goingOn is the session that goes on from s with the settings of of, whose machine it is or was; only which backend saved it the manifest alone knows.
func goingOn(of session.Session, s *Snapshot) session.Session {
	ref := s.Ref()
	of.Parent = &ref
	of.Backend = s.Manifest.Backend
	return of
}

// maxChain is how long a chain of layers may be when a machine begins with it; a longer one is made one file first. Each layer costs a descriptor and a look at each read.
const maxChain = 24

// diskFolder holds a session's disk: the files disk.0, disk.1 and so on, from the bottom to the top.
func diskFolder(sessionFolder string) string { return filepath.Join(sessionFolder, diskName) }

const diskName = "disk"

// NewDisk makes the folder of a session's disk, and returns the path of the bottom layer, which is not there yet.
func NewDisk(sessionFolder string) (string, error) {
	dir := diskFolder(sessionFolder)
	return layer(dir, 0), os.Mkdir(dir, 0o700)
}

// Layers are the paths of a session's disk, from the bottom to the top.
func Layers(sessionFolder string) ([]string, error) {
	dir := diskFolder(sessionFolder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the session's disk: %w", err)
	}
	if len(entries) == 0 {
		return nil, errors.New("the session has no disk")
	}
	var paths []string
	for i := range entries {
		if _, err := os.Lstat(layer(dir, i)); err != nil {
			return nil, fmt.Errorf("the session's disk: %w", err)
		}
		paths = append(paths, layer(dir, i))
	}
	return paths, nil
}

// NewTop makes an empty layer over those of a session's disk, which the machine is to write from now on.
func NewTop(sessionFolder string) (string, error) {
	layers, err := Layers(sessionFolder)
	if err != nil {
		return "", err
	}
	return addTop(diskFolder(sessionFolder), layers)
}

func layer(dir string, i int) string { return filepath.Join(dir, diskName+"."+strconv.Itoa(i)) }

func addTop(dir string, layers []string) (string, error) {
	info, err := os.Stat(layers[0])
	if err != nil {
		return "", err
	}
	top := layer(dir, len(layers))
	return top, disk.Create(top, info.Size())
}

// LinkDisk gives a session, which has none, the disk of a snapshot with an empty top over it.
func LinkDisk(ctx context.Context, sessionFolder string, s *Snapshot) error {
	return linkDisk(ctx, diskFolder(sessionFolder), s)
}

// RemoveDisk takes a session's disk away.
func RemoveDisk(sessionFolder string) error { return os.RemoveAll(diskFolder(sessionFolder)) }

// linkDisk makes a folder with a snapshot's layers, and an empty top over them.
func linkDisk(ctx context.Context, dir string, s *Snapshot) (err error) {
	disks := s.Disks()
	if len(disks) != 1 || len(disks[0]) == 0 {
		return damaged(s.Name, manifestFile, fmt.Sprintf("%d disks, should be 1", len(disks)))
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	layers := disks[0]
	if len(layers) > maxChain {
		if err := disk.Flatten(ctx, layer(dir, 0), layers, disk.FlattenOptions{}); err != nil {
			return fmt.Errorf("make one file of %d layers: %w", len(layers), err)
		}
		layers = layers[:1]
	} else if _, err := LinkLayers(ctx, dir, diskName, layers...); err != nil {
		return err
	}
	_, err = addTop(dir, layers)
	return err
}

// replaceDisk puts a snapshot's disk in the place of a session's. end takes the old one away when the machine runs, or else brings it back.
func replaceDisk(ctx context.Context, sessionFolder string, s *Snapshot) (end func(runs bool) error, err error) {
	now := diskFolder(sessionFolder)
	next, old := now+".next", now+".old"
	// A restore that was killed may have left these.
	if _, err := os.Lstat(now); errors.Is(err, os.ErrNotExist) {
		if err := os.Rename(old, now); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if err := errors.Join(os.RemoveAll(next), os.RemoveAll(old)); err != nil {
		return nil, err
	}
	if err := linkDisk(ctx, next, s); err != nil {
		return nil, errors.Join(err, os.RemoveAll(next))
	}
	if err := os.Rename(now, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, os.RemoveAll(next))
	}
	if err := os.Rename(next, now); err != nil {
		return nil, errors.Join(err, os.Rename(old, now))
	}
	return func(runs bool) error {
		if runs {
			return os.RemoveAll(old)
		}
		err := os.RemoveAll(now)
		if _, missing := os.Lstat(old); missing == nil {
			err = errors.Join(err, os.Rename(old, now))
		}
		return err
	}, nil
}
