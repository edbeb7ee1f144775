package ui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"capsid/app/session"
	"capsid/app/snapshot"
)

func ref(id, name string) session.SnapshotRef {
	return session.SnapshotRef{Session: id, Snapshot: name}
}

// kept is a snapshot of claude-1.
func kept(name string, at int64, parent *session.SnapshotRef) *snapshot.Snapshot {
	return &snapshot.Snapshot{Dir: "/s/00000001/snapshots/" + name, Name: name, Manifest: snapshot.Manifest{Name: name, Created: time.Unix(1e9+at, 0), Kind: snapshot.Memory, Parent: parent,
		Session: session.Session{ID: "00000001", Name: "claude-1"}}}
}

// aFamily is claude-1, restored to snap-1 and then kept as snap-2, with a fork of snap-1, a snapshot of the disk and one that is broken.
func aFamily() Family {
	here := ref("00000001", "snap-1")
	disk := kept("snap-2", 20, &here)
	disk.Manifest.Kind, disk.Manifest.Note = snapshot.Disk, "before the fix"
	broken := kept("torn", 0, nil)
	broken.Manifest, broken.Broken = snapshot.Manifest{}, &session.Error{Message: `snapshot "torn" is damaged: memory: missing`, Hint: "remove it"}
	one := running("00000001", "claude-1").Session
	one.Parent = &here
	two := running("00000002", "claude-1-fork-1").Session
	two.Parent, two.Created = &here, time.Unix(1e9+10, 0)
	members := []snapshot.Member{{Session: one, Snapshots: []*snapshot.Snapshot{broken, kept("snap-1", 5, nil), disk}}, {Session: two}}
	f := Family{Root: snapshot.Family(snapshot.Tree(members, "00000001"), "00000001"), Freed: map[session.SnapshotRef]int64{}, Below: map[session.SnapshotRef][]session.SnapshotRef{}}
	f.Root.Walk(func(n *snapshot.Node, _ int) {
		f.Freed[n.Ref] = 2e8
		if n.Snapshot != nil {
			f.Below[n.Ref] = snapshot.Descendants(members, n.Ref)
		}
	})
	return f
}

// withFamily is a bench whose session has a family, with its page in front.
func withFamily(t *testing.T) *bench {
	t.Helper()
	b, _ := withSession(t)
	b.f.mu.Lock()
	b.f.family = aFamily()
	b.f.mu.Unlock()
	b.tap("tab", "Snapshots")
	b.until("the tree is there", func() bool { return b.shows("node", "session claude-1") })
	return b
}

func (b *bench) nodes() string {
	var out []string
	for _, o := range b.w.egress.tree.rows.Objects {
		r := o.(*treeRow)
		out = append(out, strings.Repeat("  ", r.it.depth)+r.name())
	}
	return strings.Join(out, "\n")
}

func TestTreeOfSnapshots(t *testing.T) {
	b := withFamily(t)
	want := `session claude-1: running · 200 MB
  snapshot torn: snapshot "torn" is damaged: memory: missing
  snapshot snap-1: memory · 200 MB, you are here
    session claude-1-fork-1: 200 MB
    snapshot snap-2: disk only · 200 MB · before the fix`
	if got := b.nodes(); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
	rows := b.w.egress.tree.byRef
	for ref, row := range rows {
		r := test.WidgetRenderer(row).(*treeRowRenderer)
		if here := ref.Snapshot == "snap-1"; r.pill.Visible() != here || r.here.Visible() != here {
			t.Errorf("%v: the mark is shown: %v", ref, r.pill.Visible())
		}
		if torn := ref.Snapshot == "torn"; (r.info.Color == colWarn) != torn {
			t.Errorf("%v is drawn in %v", ref, r.info.Color)
		}
	}
	// What passes by, what leads to a node, and what leads down from it.
	for name, want := range map[string]int{"torn": 2, "snap-1": 3, "snap-2": 2, "": 1} {
		n := 0
		for _, o := range test.WidgetRenderer(rows[ref("00000001", name)]).(*treeRowRenderer).lines {
			if o.Visible() {
				n++
			}
		}
		if n != want {
			t.Errorf("%q has %d lines, want %d", name, n, want)
		}
	}
	b.tap("node", "session claude-1-fork-1") // not in the store: nothing happens
	b.f.put(func() session.Status {
		st := running("00000002", "claude-1-fork-1")
		st.State = session.Stopped
		return st
	}())
	b.until("the fork is known", func() bool { return b.shows("node", "session claude-1-fork-1: stopped") })
	b.tap("node", "session claude-1-fork-1")
	if b.w.current().id != "00000002" {
		t.Errorf("in front: %v", b.w.current().st.Name)
	}
}

func TestEmptyTreeOffersASnapshot(t *testing.T) {
	b, _ := withSession(t)
	b.tap("tab", "Snapshots")
	b.until("the page says so", func() bool { return b.shows("text", "No snapshot of claude-1 yet") })
	b.tap("button", "Take a snapshot")
	b.entry("snapshot name").SetText("Not This")
	b.tap("button", "Take snapshot")
	if len(b.w.dialogs) != 1 || b.f.called() != "[]" {
		t.Fatalf("a name that cannot be one was taken: %s", b.f.called())
	}
	b.entry("snapshot name").SetText("mine")
	b.entry("note").SetText("before lunch")
	b.tap("button", "Take snapshot")
	b.until("the engine is asked", func() bool { return b.f.called() == `[snapshot 00000001 mine "before lunch"]` })
	b.until("it is told", func() bool { return strings.HasPrefix(b.w.status.notice, "Snapshot mine is taken, 200 MB") })
}

func TestReturnTakesTheDefaults(t *testing.T) {
	b, _ := withSession(t)
	b.w.withCurrent(b.w.askSnapshot)
	b.w.win.Canvas().Focused().TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
	b.until("the engine is asked", func() bool { return b.f.called() == `[snapshot 00000001 snap-1 ""]` })
	b.until("it is done", func() bool { return b.w.current().task == nil })
}

func TestProgressAndCancel(t *testing.T) {
	b, c := withSession(t)
	b.f.mu.Lock()
	b.f.pending = make(chan error)
	b.f.mu.Unlock()
	b.tap("tab", "Snapshots")
	b.w.takeSnapshot(b.w.current(), session.SnapshotRequest{Name: "mine"}, nil)
	b.until("it shows", func() bool {
		return b.shows("text", "work: Snapshot of claude-1 (mine)") && b.shows("button", "Cancel")
	})
	st := running("00000001", "claude-1")
	st.Work = &session.Work{Name: "snapshot mine", Stage: "write memory", Done: 5e7, Total: 2e8}
	c.events <- session.Event{Kind: session.StatusEvent, Status: &st}
	b.until("how far it is shows", func() bool { return b.shows("text", "work: Snapshot of claude-1 (mine) write memory, 50 MB of 200 MB") })
	if b.w.work.part != 0.25 || b.w.work.done.Size().Width*4 != b.w.work.line.Size().Width {
		t.Errorf("%v of the line is drawn: %v of %v", b.w.work.part, b.w.work.done.Size(), b.w.work.line.Size())
	}
	for _, k := range []*button{b.w.egress.tree.buttons.keep, b.w.egress.tree.buttons.fork, b.w.egress.tree.buttons.suspend} {
		if !k.Disabled() {
			t.Errorf("%s can be asked for meanwhile", k.text)
		}
	}
	b.tap("button", "Cancel")
	b.until("the call is cancelled", func() bool { return strings.Contains(b.f.called(), "cancelled snapshot 00000001 mine") })
	b.until("that is told, and no failure", func() bool { return strings.HasPrefix(b.w.status.notice, "Cancelled") && len(b.w.dialogs) == 0 })
	if b.shows("text", "work:") || b.w.egress.tree.buttons.keep.Disabled() {
		t.Errorf("it is still busy: %s", b.shown())
	}
	// What another program asked for is shown, but not this window's to cancel.
	c.events <- session.Event{Kind: session.StatusEvent, Status: &st}
	b.until("it shows", func() bool { return b.shows("text", "work: Snapshot mine write memory") })
	if b.shows("button", "Cancel") {
		t.Error("it can be cancelled")
	}
	asked := b.f.families
	st.Work = nil
	c.events <- session.Event{Kind: session.StatusEvent, Status: &st}
	b.until("the tree is read anew when it ends", func() bool { b.f.mu.Lock(); defer b.f.mu.Unlock(); return b.f.families > asked })
}

func TestFailedSnapshotIsTold(t *testing.T) {
	b, _ := withSession(t)
	b.f.keepErr = &session.Error{Message: "the disk is full", Hint: "make room"}
	b.w.takeSnapshot(b.w.current(), session.SnapshotRequest{}, nil)
	b.until("it is told", func() bool {
		return b.shows("text", "No snapshot of claude-1 was taken") && b.shows("text", "the disk is full")
	})
}

func TestForkOpensBesideItsParent(t *testing.T) {
	b, _ := withSession(t)
	other := running("00000009", "gemini-1")
	other.Created = time.Unix(1e9+1, 0)
	b.f.client(other.ID).noTerminal = errors.New("no terminal here")
	b.f.put(other)
	b.until("both are listed", func() bool { return len(b.w.order) == 2 })
	parent := b.w.current()
	b.w.openSession(other.ID)
	b.w.openSession(parent.id)
	b.f.mu.Lock()
	b.f.pending = make(chan error)
	b.f.mu.Unlock()
	b.w.withCurrent(b.w.askForkNow)
	count := b.entry("count")
	count.TypedKey(&fyne.KeyEvent{Name: fyne.KeyDown})
	if count.Text != "1" {
		t.Errorf("fewer than one: %s", count.Text)
	}
	count.SetText("17")
	b.tap("button", "Fork")
	if len(b.w.dialogs) != 1 {
		t.Error("seventeen were made")
	}
	count.SetText("1")
	b.tap("button", "+")
	b.tap("button", "Fork")
	b.until("the children show while they start", func() bool {
		return b.shows("session", "claude-1-fork-1 starting") && b.shows("session", "claude-1-fork-2 starting")
	})
	var tabs, rows []string
	for _, p := range b.w.panes {
		tabs = append(tabs, p.title())
	}
	for _, s := range b.w.ordered() {
		rows = append(rows, fmt.Sprint(s.st.Name, " ", s.depth))
	}
	if got := fmt.Sprint(tabs); got != "[claude-1 claude-1-fork-1 gemini-1]" || b.w.current().st.Name != "claude-1-fork-1" {
		t.Errorf("tabs %s, in front %s", got, b.w.current().st.Name)
	}
	if got := fmt.Sprint(rows); got != "[claude-1 0 claude-1-fork-1 1 claude-1-fork-2 1 gemini-1 0]" {
		t.Errorf("sessions %s", got)
	}
	b.f.pending <- nil
	b.until("they run", func() bool { return b.shows("session", "claude-1-fork-2 running") && parent.task == nil })
	if got := b.f.called(); got != "[fork session 00000001 ×2]" {
		t.Errorf("asked for %s", got)
	}
}

func TestCancelledForkLeavesNothing(t *testing.T) {
	b, _ := withSession(t)
	b.f.mu.Lock()
	b.f.pending = make(chan error)
	b.f.mu.Unlock()
	b.w.fork(b.w.current(), session.SnapshotRef{Session: "00000001"}, 2)
	b.until("a child starts", func() bool { return b.shows("session", "claude-1-fork-1 starting") })
	b.tap("button", "Cancel") // of the child that is in front
	b.until("nothing is left of it", func() bool { return len(b.w.order) == 1 && len(b.w.panes) == 1 && len(b.w.dialogs) == 0 })
}

func TestRestoreSaysWhatIsLost(t *testing.T) {
	b := withFamily(t)
	b.tap("node", "snapshot snap-2")
	b.tap("button", "Restore…")
	b.until("it asks", func() bool { return b.shows("text", "Restore claude-1 to snap-2?") })
	b.tap("button", "Cancel")
	if b.f.called() != "[]" {
		t.Fatalf("without a yes: %s", b.f.called())
	}
	before := b.w.active.term
	b.tap("button", "Restore…")
	b.tap("button", "Snapshot first, then restore")
	b.until("both are done in turn", func() bool {
		return b.f.called() == `[snapshot 00000001 snap-1 "before the restore of snap-2" restore 00000001/snap-2]`
	})
	b.until("it runs", func() bool {
		s := b.w.current()
		return s.task == nil && s.st.State == session.Running && s.cancel == nil
	})
	if b.w.active.term == nil || b.w.active.term == before {
		t.Error("the terminal still shows what was there before")
	}
	b.tap("button", "Restore…")
	b.tap("button", "Restore")
	b.until("the engine is asked", func() bool {
		return strings.HasSuffix(b.f.called(), "restore 00000001/snap-2 restore 00000001/snap-2]")
	})
	b.until("it runs", func() bool { return b.w.current().task == nil })
}

func TestNoRestoreWithoutTheSnapshotThatWasAskedForFirst(t *testing.T) {
	b := withFamily(t)
	b.f.keepErr = errors.New("the disk is full")
	b.tap("node", "snapshot snap-1")
	b.tap("button", "Restore…")
	b.tap("button", "Snapshot first, then restore")
	b.until("it is told", func() bool { return b.shows("text", "the disk is full") })
	if strings.Contains(b.f.called(), "restore 0") {
		t.Errorf("restored all the same: %s", b.f.called())
	}
}

func TestCancelledRestoreKeepsTheSession(t *testing.T) {
	b := withFamily(t)
	b.f.mu.Lock()
	b.f.pending = make(chan error)
	b.f.mu.Unlock()
	s := b.w.current()
	b.w.restore(s, ref("00000001", "snap-1"), "Restoring", "no")
	b.until("it starts", func() bool { return s.st.State == session.Starting && b.w.active.view == "start" })
	b.tap("button", "Cancel")
	b.until("it is cancelled", func() bool { return s.task == nil && strings.HasPrefix(b.w.status.notice, "Cancelled") })
	b.until("it is as the store says", func() bool { return s.st.State == session.Stopped && b.w.hasPane(s) && len(b.w.order) == 1 })
}

func TestSnapshotIsForked(t *testing.T) {
	b := withFamily(t)
	b.tap("node", "snapshot snap-1")
	b.tap("button", "Fork this…")
	b.entry("count").SetText("3")
	b.tap("button", "Fork")
	b.until("the engine is asked", func() bool { return b.f.called() == "[fork 00000001/snap-1 ×3]" })
	b.until("it is done", func() bool { return b.w.sessions["00000001"].task == nil })
}

func TestBrokenSnapshotCanOnlyBeRemoved(t *testing.T) {
	b := withFamily(t)
	b.tap("node", "snapshot torn")
	b.until("the details are shown", func() bool { return b.shows("button", "Remove…") })
	if b.shows("button", "Restore…") || b.shows("button", "Fork this…") {
		t.Errorf("shown: %s", b.shown())
	}
	b.tap("button", "Remove…")
	b.tap("button", "Remove")
	b.until("the engine is asked", func() bool { return b.f.called() == "[remove [00000001/torn]]" })
}

func TestRefusedRemovalNamesTheChildren(t *testing.T) {
	b := withFamily(t)
	b.f.keepErr = snapshot.Refused("snap-1", []string{"00000001/snap-2"})
	b.tap("node", "snapshot snap-1")
	b.tap("button", "Remove…")
	b.until("it asks", func() bool { return b.shows("text", "Remove snapshot snap-1?") })
	b.tap("button", "Remove")
	b.until("it is refused", func() bool { return b.shows("text", "snap-1 has children") })
	if !b.shows("text", "These came from it") || !strings.Contains(b.shown(), "Sessions: claude-1-fork-1.") || !strings.Contains(b.shown(), "Snapshots: snap-2.") {
		t.Errorf("the children are not named: %s", b.shown())
	}
	b.tap("button", "Cancel")
	if got := b.f.called(); got != "[remove [00000001/snap-1]]" {
		t.Fatalf("without a yes: %s", got)
	}
	b.tap("button", "Remove…")
	b.tap("button", "Remove")
	b.until("it is refused", func() bool { return b.shows("text", "snap-1 has children") })
	b.f.mu.Lock()
	b.f.keepErr = nil
	b.f.calls = nil
	b.f.mu.Unlock()
	b.tap("button", "Remove all of them")
	b.until("children go first", func() bool {
		return b.f.called() == "[remove [00000001/snap-2 session 00000002 00000001/snap-1]]"
	})
}

func TestSuspendedSessionIsResumed(t *testing.T) {
	b, _ := withSession(t)
	b.w.withCurrent(b.w.suspend)
	b.until("the supervisor is asked", func() bool { return b.f.called() == "[suspend 00000001]" })
	st := running("00000001", "claude-1")
	st.State, st.Suspended = session.Suspended, "suspended-1"
	b.f.put(st)
	b.until("it is suspended", func() bool { return b.shows("session", "claude-1 suspended") && b.shows("button", "Resume") })
	b.w.closePane(b.w.active)
	b.w.openSession("00000001")
	b.until("its pane says so", func() bool { return b.shows("text", "claude-1 is suspended") })
	b.tap("button", "Resume")
	b.until("it goes on", func() bool {
		return strings.HasSuffix(b.f.called(), "restore 00000001/suspended-1]") && b.w.current().st.State == session.Running
	})
	b.until("its terminal is back", func() bool { return b.w.active.view == "terminal" && b.w.current().task == nil })
}
