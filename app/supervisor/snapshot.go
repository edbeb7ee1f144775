package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/vmm"
)

// The files of a snapshot beside those of the machine and its disk.
const (
	shareFile  = "share"       // what the share's process knows of the guest's files
	aroundFile = "around.json" // around
)

// How long the guest may take to stop its programs, and to let them run on: one that does neither must not keep the session from being paused or ended.
const (
	freezeTime = time.Minute
	thawTime   = time.Minute
)

// Snapshot keeps the machine as it is. Its programs rest for the time that it takes to freeze them; what was frozen is written while they go on.
func (s *Supervisor) Snapshot(ctx context.Context, r session.SnapshotRequest) (session.SnapshotResult, error) {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	return s.keep(ctx, r, false)
}

// Suspend keeps the machine as it is and ends the session.
func (s *Supervisor) Suspend(ctx context.Context) (session.SnapshotResult, error) {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	list, err := snapshot.List(snapshot.Folder(s.folder))
	if err != nil {
		return session.SnapshotResult{}, err
	}
	done, err := s.keep(ctx, session.SnapshotRequest{Name: snapshot.FreeName(list, "suspended-")}, true)
	if err != nil {
		return done, err
	}
	s.suspended <- done.Name // the machine rests: nothing else can happen to it
	select {
	case <-s.gone:
		return done, nil
	case <-ctx.Done():
		return done, ctx.Err()
	}
}

// keep takes a snapshot; the caller holds pausing.
func (s *Supervisor) keep(ctx context.Context, r session.SnapshotRequest, stay bool) (done session.SnapshotResult, err error) {
	if !s.isUp() {
		return done, errNotUp
	}
	// The end of the session is the end of this too.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	if !s.backend.Capabilities().Snapshot {
		return done, &session.Error{Message: "the backend " + s.backend.Name() + " cannot take snapshots", Hint: "capsid doctor shows the backends"}
	}
	if err := snapshot.CheckNote(r.Note); err != nil {
		return done, err
	}
	folder := snapshot.Folder(s.folder)
	if r.Name == "" {
		list, err := snapshot.List(folder)
		if err != nil {
			return done, err
		}
		r.Name = snapshot.FreeName(list, "snap-")
	}
	draft, err := snapshot.New(folder, r.Name)
	if err != nil {
		return done, fullDisk(err)
	}
	defer draft.Abort()
	stage := s.state.work("snapshot " + r.Name)
	defer s.state.idle()
	done.Name = r.Name

	kept, frozen, err := s.take(ctx, draft, snapshot.Manifest{
		Session: s.sess, Backend: s.backend.Name(), Capsid: s.cfg.Version, Image: s.sess.Image, Kind: snapshot.Memory, Parent: s.sess.Parent, User: s.user, Note: r.Note,
	}, stay, stage)
	if err != nil {
		return done, fullDisk(err)
	}
	done.Rested, done.Bytes = frozen.rested, snapshot.Freed(kept.Dir)
	s.notice("info", fmt.Sprintf("snapshot %s was taken: %.1f MB; programs rested for %v", r.Name, float64(done.Bytes)/1e6, done.Rested.Round(time.Millisecond)))
	return done, nil
}

// take freezes the machine into a draft and commits it. m lacks the disk.
func (s *Supervisor) take(ctx context.Context, draft *snapshot.Draft, m snapshot.Manifest, stay bool, stage func(name string, done, total int64)) (*snapshot.Snapshot, frozen, error) {
	f, err := s.freeze(ctx, draft.Dir(), stay, stage)
	if err != nil {
		return nil, f, err
	}
	kept, err := s.commit(ctx, draft, m, f.layers, stage)
	if err != nil && stay {
		err = errors.Join(err, f.goOn())
	}
	return kept, f, err
}

// commit puts the frozen layers beside the frozen machine, and makes the draft a snapshot.
func (s *Supervisor) commit(ctx context.Context, draft *snapshot.Draft, m snapshot.Manifest, layers []string, stage func(name string, done, total int64)) (*snapshot.Snapshot, error) {
	names, err := snapshot.LinkLayers(ctx, draft.Dir(), "disk", layers...)
	if err != nil {
		return nil, err
	}
	m.Disks = [][]string{names}
	kept, err := draft.Commit(ctx, m, func(n, total int64) { stage("check", n, total) })
	if err != nil {
		return nil, err
	}
	kept.MarkVerified(s.cfg.Paths)
	return kept, nil
}

// frozen is a machine of which a snapshot was taken.
type frozen struct {
	layers []string      // of the disk, which nobody writes any more
	rested time.Duration // of the programs
	goOn   func() error  // lets a machine that stayed go on
}

// freeze stops the session's programs, so that no file of the workspace is in use, freezes the machine with what the host knows of it, and lets the programs go on.
func (s *Supervisor) freeze(ctx context.Context, dir string, stay bool, stage func(name string, done, total int64)) (f frozen, err error) {
	machine := s.machine.(vmm.Snapshotter)
	paused := s.state.get().State == session.Paused
	stage("freeze", 0, 0)
	if f.layers, err = snapshot.Layers(s.folder); err != nil {
		return f, err
	}
	top, err := snapshot.NewTop(s.folder)
	if err != nil {
		return f, err
	}
	began := time.Now()
	if paused {
		// Only a guest that runs can stop its programs.
		if err := machine.Resume(ctx); err != nil {
			return f, err
		}
	}
	var once sync.Once
	thaw := func() (err error) {
		once.Do(func() {
			// Also when ctx has ended: the session goes on whatever comes of the snapshot.
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawTime)
			defer cancel()
			err = s.control.Thaw(late)
			f.rested = time.Since(began)
			if paused {
				err = errors.Join(err, machine.Pause(late))
			}
		})
		return err
	}
	f.goOn = func() error {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawTime)
		defer cancel()
		return errors.Join(machine.Resume(late), thaw())
	}
	limit, cancel := context.WithTimeoutCause(ctx, freezeTime, fmt.Errorf("the guest did not stop its programs within %v", freezeTime))
	defer cancel()
	err = s.control.Freeze(limit)
	if err == nil {
		err = s.saveAround(limit, dir)
	}
	if err != nil && ctx.Err() == nil && limit.Err() != nil {
		err = context.Cause(limit)
	}
	if err != nil {
		return f, errors.Join(err, thaw())
	}
	var thawed error
	err = machine.Snapshot(ctx, vmm.SnapshotConfig{Dir: dir, Tops: []string{top}, Stay: stay, Frozen: func() {
		stage("write memory", 0, 0)
		if !stay {
			thawed = thaw()
		}
	}})
	switch {
	case err != nil && stay:
		err = errors.Join(err, f.goOn())
	case err != nil:
		err = errors.Join(err, thaw())
	case thawed != nil:
		// The snapshot is good, and the guest is in trouble: which a snapshot is no cure for.
		err = thawed
	}
	return f, err
}

// saveAround writes what the host knows of the machine.
func (s *Supervisor) saveAround(ctx context.Context, dir string) error {
	if s.share != nil {
		state, err := s.share.process.Save(ctx)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, shareFile), state, 0o600); err != nil {
			return err
		}
	}
	text, err := json.Marshal(around{s.proxy.Names(), s.lockdown})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, aroundFile), text, 0o600)
}
