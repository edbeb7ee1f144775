package snapshot

import (
	"context"

	"capsid/app/session"
)

// TakeDisk takes a snapshot of the disk of a session that does not run; one that does is refused with session.ErrAlive. name may be empty: the first free of snap-1, snap-2 and so on
// is taken then. progress, which may be nil, is told the bytes read, by one goroutine at a time.
//
// The snapshot shares the top layer with the session, which nobody may write any more. Nobody does: a session that has ended goes on through Restore alone, which puts a new top over the
// layers.
func TakeDisk(ctx context.Context, store *session.Store, id, name, note string, progress func(done, total int64)) (*Snapshot, error) {
	release, err := store.Hold(id)
	if err != nil {
		return nil, err
	}
	defer release()
	st, err := store.Find(id)
	if err != nil {
		return nil, err
	}
	home := store.Paths().Folder(st.ID)
	layers, err := Layers(home)
	if err != nil {
		return nil, &session.Error{Message: "session " + st.Name + " has nothing to keep", Err: err, Hint: "capsid rm " + st.Name + " removes it"}
	}
	folder := Folder(home)
	if name == "" {
		list, err := List(folder)
		if err != nil {
			return nil, err
		}
		name = FreeName(list, "snap-")
	}
	draft, err := New(folder, name)
	if err != nil {
		return nil, err
	}
	defer draft.Abort()
	names, err := LinkLayers(ctx, draft.Dir(), diskName, layers...)
	if err != nil {
		return nil, err
	}
	return draft.Commit(ctx, Manifest{
		Session: st.Session, Backend: st.Backend, Image: st.Image, Kind: Disk, Parent: st.Parent, Disks: [][]string{names}, Note: note,
	}, progress)
}
