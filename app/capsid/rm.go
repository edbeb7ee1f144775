package main

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/app/snapshot"
)

func (c *cli) rmCmd() *cobra.Command {
	var force, cascade bool
	cmd := &cobra.Command{
		Use: "rm ID[/SNAPSHOT]...", Short: "Remove ended sessions and all that they wrote outside their workspace, or snapshots", Args: between(1, -1, "the ID or name of a session"),
		Long: `rm removes sessions with their snapshots, or single snapshots of them.

Forks have files of their own: removing the session or the snapshot that they came from takes nothing from them. A snapshot that others came
from is removed with all of those (--cascade) or not at all, so that it is never unknown where something came from.`,
		Example: "  capsid rm claude-1\n  capsid rm claude-1/before-the-fix --cascade",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.all(args, func(arg string) error {
				key, name, isSnapshot := strings.Cut(arg, "/")
				store, st, err := c.find(key)
				if err != nil {
					return err
				}
				if !isSnapshot {
					return c.removeSession(store, st, force)
				}
				return c.removeSnapshot(store, st, name, force, cascade)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end a session that runs first; remove a suspended one, or what it needs to go on")
	cmd.Flags().BoolVar(&cascade, "cascade", false, "remove what came from a snapshot too: snapshots, and sessions, which are ended first")
	return cmd
}

// removed says what was removed, and the size that this gave back.
func (c *cli) removed(name string, freed int64) { c.note("Removed %s: %s.", name, bytesText(freed)) }

func (c *cli) removeSession(store *session.Store, st session.Status, force bool) error {
	if st.State == session.Suspended && !force {
		return &session.Error{
			Message: "session " + st.Name + " is suspended, and its programs would be lost",
			Hint:    "capsid resume " + st.Name + " brings it back; capsid rm --force " + st.Name + " removes it",
		}
	}
	freed := snapshot.Freed(store.Paths().Folder(st.ID))
	if err := store.Remove(st.ID, force); err != nil {
		return err
	}
	c.removed(st.Name, freed)
	return nil
}

// removeSnapshot removes a snapshot and, with cascade, what came from it: children first, so that what is left is always a tree.
func (c *cli) removeSnapshot(store *session.Store, of session.Status, key string, force, cascade bool) error {
	s, err := snapshot.Lookup(snapshots(store, of.ID), key)
	if err != nil {
		return err
	}
	members, err := snapshot.Members(store)
	if err != nil {
		return err
	}
	if children := snapshot.Children(members, s.Ref()); len(children) > 0 && !cascade {
		var names []string
		for _, ref := range children {
			names = append(names, called(members, ref))
		}
		return snapshot.Refused(s.Name, names)
	}
	refs := append(snapshot.Descendants(members, s.Ref()), s.Ref())
	if !force {
		if err := needed(store, refs); err != nil {
			return err
		}
	}
	for _, ref := range refs {
		if err := c.removeOne(store, members, ref); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) removeOne(store *session.Store, members []snapshot.Member, ref snapshot.Ref) error {
	name := called(members, ref)
	if ref.Snapshot == "" {
		st, err := store.Find(ref.Session)
		if err != nil {
			return err
		}
		return c.removeSession(store, st, true)
	}
	dir := filepath.Join(snapshots(store, ref.Session), ref.Snapshot)
	freed := snapshot.Freed(dir)
	if err := snapshot.Remove(dir, nil); errors.Is(err, snapshot.ErrUnknown) {
		return nil // it went with its session
	} else if err != nil {
		return err
	}
	c.removed(name, freed)
	return nil
}

// needed refuses to remove what a suspended session that stays is to go on from.
func needed(store *session.Store, refs []snapshot.Ref) error {
	list, err := store.List()
	if err != nil {
		return err
	}
	going := map[snapshot.Ref]bool{}
	for _, ref := range refs {
		going[ref] = true
	}
	for _, st := range list {
		if st.State == session.Suspended && going[snapshot.Ref{Session: st.ID, Snapshot: st.Suspended}] && !going[snapshot.Ref{Session: st.ID}] {
			return &session.Error{
				Message: "session " + st.Name + " is suspended as " + st.Suspended + " and could not go on without it",
				Hint:    "capsid resume " + st.Name + " first, or --force",
			}
		}
	}
	return nil
}
