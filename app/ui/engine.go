package ui

import (
	"context"
	"errors"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/app/terminal"
	"capsid/guest/control"
	"capsid/proxy/ledger"
)

// Engine is what the window needs from the rest of Capsid. Its methods may block and are never called on the UI goroutine.
type Engine interface {
	// Agents lists what a session can be started with, in the order of the buttons.
	Agents() ([]Agent, error)
	List() ([]session.Status, error)
	// Watch tells that List may answer differently; the channel is closed when ctx ends.
	Watch(ctx context.Context) (<-chan struct{}, error)
	Start(ctx context.Context, opts session.StartOptions, onStatus func(session.Status)) (session.Status, error)
	Remove(id string, force bool) error
	Client(id string) Client
	// Family reads the tree of sessions and snapshots that a session is in.
	Family(id string) (Family, error)
	// Snapshot keeps a session as it is now: of one that does not run, the disk.
	Snapshot(ctx context.Context, id string, r session.SnapshotRequest) (session.SnapshotResult, error)
	// Fork makes 1 to snapshot.MaxForks sessions that go on from a snapshot; where from names none, from the session as it is now, which is kept as the first free
	// of fork-1, fork-2 and so on. Those that came up are returned also with an error.
	Fork(ctx context.Context, from session.SnapshotRef, count int, onStatus func(session.Status)) ([]session.Status, error)
	// Restore brings the session in whose folder a snapshot lies back to it; one that runs is ended first, once the snapshot is known to be whole.
	Restore(ctx context.Context, to session.SnapshotRef, onStatus func(session.Status)) (session.Status, error)
	// RemoveSnapshots removes snapshots, and sessions where no snapshot is named, in this order. The first that others came from is refused with snapshot.ErrChildren.
	RemoveSnapshots(refs []session.SnapshotRef) error
	// Ledger reads what a session that no longer runs had asked for.
	Ledger(id string, q ledger.Query) ([]ledger.Entry, error)
	// Image describes the image that new sessions start from; ErrNoImage when there is none.
	Image() (string, error)
	// BuildImage makes one; cancelling ctx leaves nothing half-made.
	BuildImage(ctx context.Context, progress func(Progress)) error
	// Backends says what can run machines here.
	Backends() Backends
}

// ErrNoImage: no image has been built yet.
var ErrNoImage = errors.New("no image has been built yet")

// Client speaks to one session's supervisor; *session.Client but for the type of its terminals.
type Client interface {
	Events(ctx context.Context) (<-chan session.Event, error)
	Terminal(ctx context.Context, name string, cols, rows int) (TerminalConn, error)
	OpenTerminal(ctx context.Context, spec control.TerminalSpec) error
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Kill(ctx context.Context) error
	Suspend(ctx context.Context) (session.SnapshotResult, error)
	Decide(ctx context.Context, host, action, scope string) error
	Ledger(ctx context.Context, q ledger.Query) ([]ledger.Entry, error)
	Blocked(ctx context.Context) ([]ledger.Group, error)
}

// TerminalConn is a view of a terminal. Exit receives the program's status once, if it ends.
type TerminalConn interface {
	terminal.Conn
	Exit() <-chan int
}

// Family is a session with all that it came from and all that came from it.
type Family struct {
	Root  *snapshot.Node                                // nil when the session is in none
	Freed map[session.SnapshotRef]int64                 // bytes that removing a node gives back
	Below map[session.SnapshotRef][]session.SnapshotRef // what came from a snapshot, in an order in which each can be removed
}

// Find returns a node by its name; nil when it is not there.
func (f Family) Find(ref session.SnapshotRef) (found *snapshot.Node) {
	if f.Root != nil {
		f.Root.Walk(func(n *snapshot.Node, _ int) {
			if n.Ref == ref {
				found = n
			}
		})
	}
	return found
}

// Agent is one kind of session.
type Agent struct {
	Name  string // as in StartOptions.Agent
	Title string // "Claude"
	Icon  []byte // SVG; may be empty
}

// Backends are what can run machines on this computer.
type Backends struct {
	Line   string // what will run the next machine and why, or what is missing
	Usable []Backend
}

// Backend is one that works here.
type Backend struct {
	Name   string // as in StartOptions.Backend
	Detail string // "QEMU 9.1.0, TCG"
}

// Progress is how far the building of an image is.
type Progress struct {
	Stage string
	// Done is between 0 and 1, or negative when it is not known.
	Done float64
	Line string // the latest of what is being done, may be empty
}
