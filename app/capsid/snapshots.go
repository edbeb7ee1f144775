package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/app/snapshot"
)

func (c *cli) snapshotsCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "snapshots [ID]", Short: "Show snapshots, and which sessions and snapshots came from which", Args: between(0, 1, "the ID or name of a session"),
		Long: `snapshots shows sessions with their snapshots as a tree: below a session the snapshots that were taken of it, below a snapshot what went on
from it. With an ID it shows that session's family, and where the session is.

FREES is what removing that one line gives back to the disk; what is shared with others is theirs too and does not count. Removing a
session removes its snapshots.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := c.store()
			if err != nil {
				return err
			}
			f := forest{store: store, states: map[string]session.State{}}
			here := ""
			if len(args) > 0 {
				st, err := store.Find(args[0])
				if err != nil {
					return err
				}
				here = st.ID
			}
			if err := f.read(here); err != nil {
				return err
			}
			if asJSON {
				return c.json(f.list())
			}
			if len(f.roots) == 0 {
				c.note("No snapshots. Take one with: capsid snapshot ID")
				return nil
			}
			return c.table([]string{"SNAPSHOTS", "AGE", "FREES", "HOLDS", "NOTE"}, f.rows())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// forest is what capsid snapshots shows.
type forest struct {
	store  *session.Store
	states map[string]session.State // by session ID
	roots  []*snapshot.Node
}

// read finds the family of a session or, with an empty ID, all that have snapshots.
func (f *forest) read(here string) error {
	list, err := f.store.List()
	if err != nil {
		return err
	}
	for _, st := range list {
		f.states[st.ID] = st.State
	}
	members, err := snapshot.Members(f.store)
	if err != nil {
		return err
	}
	roots := snapshot.Tree(members, here)
	if here != "" {
		if root := snapshot.Family(roots, here); root != nil {
			f.roots = append(f.roots, root)
		}
		return nil
	}
	for _, root := range roots {
		if len(root.Children) > 0 {
			f.roots = append(f.roots, root)
		}
	}
	return nil
}

// dir is what would be removed.
func (f *forest) dir(n *snapshot.Node) string {
	if n.Snapshot != nil {
		return n.Snapshot.Dir
	}
	return f.store.Paths().Folder(n.Session.ID)
}

// rows draws the trees.
func (f *forest) rows() [][]string {
	var rows [][]string
	var draw func(n *snapshot.Node, first, rest string)
	draw = func(n *snapshot.Node, first, rest string) {
		rows = append(rows, f.row(n, first))
		for i, child := range n.Children {
			if i == len(n.Children)-1 {
				draw(child, rest+"└── ", rest+"    ")
			} else {
				draw(child, rest+"├── ", rest+"│   ")
			}
		}
	}
	for _, root := range f.roots {
		draw(root, "", "")
	}
	return rows
}

func (f *forest) row(n *snapshot.Node, branch string) []string {
	name, holds, note := n.Name(), "", ""
	switch {
	case n.Session != nil:
		name += ", " + string(f.states[n.Session.ID])
	case n.Snapshot.Broken != nil:
		holds, note = "broken", oneLine(n.Snapshot.Broken.Error())
	default:
		holds, note = string(n.Snapshot.Manifest.Kind), n.Snapshot.Manifest.Note
	}
	if n.Here {
		name += "  ← you are here"
	}
	age := "-"
	if !n.Created().IsZero() {
		age = short(time.Since(n.Created()))
	}
	return []string{branch + name, age, bytesText(snapshot.Freed(f.dir(n))), orDash(holds), orDash(note)}
}

// treeEntry is one line of the tree for programs.
type treeEntry struct {
	Session  string        `json:"session"` // ID; of a snapshot, that of the session in whose folder it lies
	Snapshot string        `json:"snapshot,omitempty"`
	Name     string        `json:"name"`            // of the session, or the snapshot
	State    session.State `json:"state,omitempty"` // of the session
	Parent   *snapshot.Ref `json:"parent,omitempty"`
	Depth    int           `json:"depth"` // in the tree; the lines are in its order
	Here     bool          `json:"here"`
	Created  *time.Time    `json:"created,omitempty"` // of a broken one that is not known
	Bytes    int64         `json:"bytes"`             // that removing it gives back
	Kind     snapshot.Kind `json:"kind,omitempty"`
	Note     string        `json:"note,omitempty"`
	Broken   string        `json:"broken,omitempty"`
}

func (f *forest) list() []treeEntry {
	out := []treeEntry{}
	for _, root := range f.roots {
		root.Walk(func(n *snapshot.Node, depth int) {
			e := treeEntry{
				Session: n.Ref.Session, Snapshot: n.Ref.Snapshot, Name: n.Name(), Parent: n.Parent, Depth: depth, Here: n.Here, Bytes: snapshot.Freed(f.dir(n)),
			}
			if at := n.Created(); !at.IsZero() {
				e.Created = &at
			}
			if n.Session != nil {
				e.State = f.states[n.Session.ID]
			} else {
				e.Kind, e.Note = n.Snapshot.Manifest.Kind, n.Snapshot.Manifest.Note
				if n.Snapshot.Broken != nil {
					e.Broken = oneLine(n.Snapshot.Broken.Error())
				}
			}
			out = append(out, e)
		})
	}
	return out
}

// called is what people call a session or a snapshot.
func called(members []snapshot.Member, ref snapshot.Ref) string {
	name := ref.Session
	for _, m := range members {
		if m.Session.ID == ref.Session {
			name = m.Session.Name
		}
	}
	if ref.Snapshot == "" {
		return name
	}
	return fmt.Sprintf("%s/%s", name, ref.Snapshot)
}
