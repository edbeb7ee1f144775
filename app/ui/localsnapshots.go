package ui

import (
	"context"
	"errors"
	"path/filepath"

	"capsid/app/session"
	"capsid/app/snapshot"
)

// Family is of Engine.
func (l *Local) Family(id string) (Family, error) {
	members, err := snapshot.Members(l.Store)
	if err != nil {
		return Family{}, err
	}
	f := Family{
		Root:  snapshot.Family(snapshot.Tree(members, id), id),
		Freed: map[session.SnapshotRef]int64{}, Below: map[session.SnapshotRef][]session.SnapshotRef{},
	}
	if f.Root == nil {
		return f, nil
	}
	f.Root.Walk(func(n *snapshot.Node, _ int) {
		f.Freed[n.Ref] = snapshot.Freed(l.dir(n.Ref))
		if n.Snapshot != nil {
			f.Below[n.Ref] = snapshot.Descendants(members, n.Ref)
		}
	})
	return f, nil
}

// dir is the folder of a session or a snapshot.
func (l *Local) dir(ref session.SnapshotRef) string {
	folder := l.Store.Paths().Folder(ref.Session)
	if ref.Snapshot == "" {
		return folder
	}
	return filepath.Join(snapshot.Folder(folder), ref.Snapshot)
}

// Fork is of Engine.
func (l *Local) Fork(ctx context.Context, from session.SnapshotRef, count int, on func(session.Status)) ([]session.Status, error) {
	taken := from.Snapshot == ""
	if taken {
		name, err := l.keepForFork(ctx, from.Session)
		if err != nil {
			return nil, err
		}
		from.Snapshot = name
	}
	s, err := snapshot.Open(l.dir(from))
	if err != nil {
		return nil, err
	}
	list, err := snapshot.Fork(ctx, l.Store, s, count, "", snapshot.Options{OnStatus: on})
	if err != nil && taken && len(list) == 0 {
		// Nobody asked for the snapshot itself.
		err = errors.Join(err, snapshot.Remove(s.Dir, nil))
	}
	return list, err
}

// keepForFork takes a snapshot under the first free name.
func (l *Local) keepForFork(ctx context.Context, id string) (string, error) {
	list, err := snapshot.List(snapshot.Folder(l.Store.Paths().Folder(id)))
	if err != nil {
		return "", err
	}
	done, err := l.Snapshot(ctx, id, session.SnapshotRequest{Name: snapshot.FreeName(list, "fork-")})
	return done.Name, err
}

// Snapshot is of Engine.
func (l *Local) Snapshot(ctx context.Context, id string, r session.SnapshotRequest) (session.SnapshotResult, error) {
	st, err := l.Store.Find(id)
	if err != nil {
		return session.SnapshotResult{}, err
	}
	if living(st.State) {
		return l.Store.Client(id).Snapshot(ctx, r)
	}
	s, err := snapshot.TakeDisk(ctx, l.Store, id, r.Name, r.Note, nil)
	if err != nil {
		return session.SnapshotResult{}, err
	}
	return session.SnapshotResult{Name: s.Name, Bytes: snapshot.Freed(s.Dir)}, nil
}

// Restore is of Engine.
func (l *Local) Restore(ctx context.Context, to session.SnapshotRef, on func(session.Status)) (session.Status, error) {
	s, err := snapshot.Open(l.dir(to))
	if err != nil {
		return session.Status{}, err
	}
	st, err := l.Store.Find(to.Session)
	if err != nil {
		return st, err
	}
	if living(st.State) {
		// What runs is worth more than a snapshot that turns out to be damaged when it is gone.
		if err := s.VerifyOnce(ctx, l.Store.Paths(), nil); err != nil {
			return st, err
		}
		if err := l.Store.Kill(ctx, st.ID); err != nil && !errors.Is(err, session.ErrNotRunning) {
			return st, err
		}
	}
	return snapshot.Restore(ctx, l.Store, st.ID, s, snapshot.Options{OnStatus: on})
}

// RemoveSnapshots is of Engine.
func (l *Local) RemoveSnapshots(refs []session.SnapshotRef) error {
	for _, ref := range refs {
		// Asked each time: somebody may have forked meanwhile.
		members, err := snapshot.Members(l.Store)
		if err != nil {
			return err
		}
		children := snapshot.Children(members, ref)
		switch {
		case ref.Snapshot != "":
			err = snapshot.Remove(l.dir(ref), children)
		case len(children) > 0:
			// It is to go because of another, from which nothing may be left.
			err = &session.Error{Message: "others have come from session " + ref.Session + " meanwhile", Hint: "look at the tree, and try again", Kind: snapshot.ErrChildren}
		default:
			err = l.Store.Remove(ref.Session, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
