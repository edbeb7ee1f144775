package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"capsid/app/session"
)

// Member is a session and its snapshots.
type Member struct {
	Session   session.Session
	Snapshots []*Snapshot
}

// Members reads all sessions of a store.
func Members(store *session.Store) ([]Member, error) {
	sessions, err := store.List()
	if err != nil {
		return nil, err
	}
	var out []Member
	for _, st := range sessions {
		list, err := List(Folder(store.Paths().Folder(st.ID)))
		if err != nil {
			return nil, fmt.Errorf("session %s: %w", st.ID, err)
		}
		out = append(out, Member{st.Session, list})
	}
	return out, nil
}

// Node is a session or a snapshot in the tree of a family. Below a session are the snapshots that were taken of it; below a snapshot are those that were taken after the
// session was restored from it, and the sessions that were forked from it.
type Node struct {
	Ref      Ref
	Session  *session.Session // nil for a snapshot
	Snapshot *Snapshot        // nil for a session
	// Parent is what the node came from, as it is written down, even when that is gone; nil for what was booted.
	Parent   *Ref
	Here     bool // the machine of the session that was asked for goes on from here
	Children []*Node

	above *Node
}

// Name is what people call it.
func (n *Node) Name() string {
	if n.Session != nil {
		return n.Session.Name
	}
	return n.Snapshot.Name
}

// Created is when it was made; of broken snapshots that is not known.
func (n *Node) Created() time.Time {
	if n.Session != nil {
		return n.Session.Created
	}
	return n.Snapshot.Manifest.Created
}

// Walk visits the node and all below it, depth first, in the order they are shown.
func (n *Node) Walk(visit func(n *Node, depth int)) { n.walk(visit, 0) }

func (n *Node) walk(visit func(n *Node, depth int), depth int) {
	visit(n, depth)
	for _, c := range n.Children {
		c.walk(visit, depth+1)
	}
}

// Family returns the root of the tree that a session is in; nil when it is in none.
func Family(roots []*Node, id string) *Node {
	for _, root := range roots {
		in := false
		root.Walk(func(n *Node, _ int) { in = in || n.Ref == Ref{Session: id} })
		if in {
			return root
		}
	}
	return nil
}

// Tree arranges sessions and their snapshots in families, each node once whatever their manifests say. here is the ID of the session for which "you are here" is
// marked; it may be empty. A fork of a snapshot that is gone stands below the session that this was of, or by itself when that is gone too.
func Tree(members []Member, here string) []*Node {
	nodes := map[Ref]*Node{}
	var all []*Node
	add := func(n *Node) {
		if nodes[n.Ref] == nil {
			nodes[n.Ref] = n
			all = append(all, n)
		}
	}
	for _, m := range members {
		sess := m.Session
		add(&Node{Ref: Ref{Session: sess.ID}, Session: &sess, Parent: origin(m)})
		for _, s := range m.Snapshots {
			add(&Node{Ref: Ref{Session: sess.ID, Snapshot: s.Name}, Snapshot: s, Parent: s.Manifest.Parent})
		}
	}
	slices.SortStableFunc(all, func(a, b *Node) int {
		if c := a.Created().Compare(b.Created()); c != 0 {
			return c
		}
		return strings.Compare(a.Ref.String(), b.Ref.String())
	})
	var roots []*Node
	for _, n := range all {
		above := place(nodes, n)
		if above == nil || below(above, n) {
			roots = append(roots, n)
			continue
		}
		n.above = above
		above.Children = append(above.Children, n)
	}
	mark(nodes, members, here)
	return roots
}

// place is the node that n belongs below.
func place(nodes map[Ref]*Node, n *Node) *Node {
	own := nodes[Ref{Session: n.Ref.Session}]
	if n.Session == nil {
		// A fork's snapshots have their parent in another session, where the fork itself stands.
		if n.Parent != nil && n.Parent.Session == n.Ref.Session && nodes[*n.Parent] != nil {
			return nodes[*n.Parent]
		}
		return own
	}
	if n.Parent == nil {
		return nil
	}
	if at := nodes[*n.Parent]; at != nil {
		return at
	}
	return nodes[Ref{Session: n.Parent.Session}]
}

// below reports whether n is ancestor or a node above it: hostile manifests can name one another.
func below(n, ancestor *Node) bool {
	for ; n != nil; n = n.above {
		if n == ancestor {
			return true
		}
	}
	return false
}

// origin is where a session came from: what it was restored from in place is its own, so those are followed back to what is another's.
func origin(m Member) *Ref {
	own := map[string]*Ref{}
	for _, s := range m.Snapshots {
		own[s.Name] = s.Manifest.Parent
	}
	p := m.Session.Parent
	for range len(m.Snapshots) + 1 { // no longer than that without a circle
		if p == nil || p.Session != m.Session.ID {
			return p
		}
		p = own[p.Snapshot]
	}
	return nil
}

func mark(nodes map[Ref]*Node, members []Member, here string) {
	for _, m := range members {
		if m.Session.ID != here {
			continue
		}
		at := nodes[Ref{Session: here}]
		if p := m.Session.Parent; p != nil && p.Session == here && nodes[*p] != nil {
			at = nodes[*p]
		}
		at.Here = true
		return
	}
}

// Children returns what came from a snapshot: sessions that were forked from it and snapshots of what went on from it. The session that it was taken of is no child, even
// if it was restored from it. Of a session they are the other sessions that came from any of its snapshots.
func Children(members []Member, of Ref) []Ref {
	is := func(p *Ref) bool {
		return p != nil && (*p == of || of.Snapshot == "" && p.Session == of.Session)
	}
	var out []Ref
	for _, m := range members {
		if m.Session.ID == of.Session {
			if of.Snapshot == "" {
				continue // its snapshots go with it
			}
		} else if is(origin(m)) {
			out = append(out, Ref{Session: m.Session.ID})
			continue // and so do a fork's
		}
		for _, s := range m.Snapshots {
			if is(s.Manifest.Parent) {
				out = append(out, Ref{Session: m.Session.ID, Snapshot: s.Name})
			}
		}
	}
	return out
}

// Descendants returns all that came from a snapshot or a session, in an order in which each can be removed: children first.
func Descendants(members []Member, of Ref) []Ref {
	var out []Ref
	seen := map[Ref]bool{of: true}
	var visit func(of Ref)
	visit = func(of Ref) {
		for _, c := range Children(members, of) {
			if !seen[c] {
				seen[c] = true
				visit(c)
				out = append(out, c)
			}
		}
	}
	visit(of)
	return out
}
