package ui

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/app/ui/traffic"
)

// treePage shows the family of the selected session: its snapshots, what was forked from them, and where it is itself.
type treePage struct {
	w       *Window
	root    fyne.CanvasObject
	tools   *fyne.Container
	rows    *fyne.Container
	note    *fyne.Container
	detail  *fyne.Container
	byRef   map[session.SnapshotRef]*treeRow
	buttons struct{ keep, fork, pause, suspend *button }

	s        *live
	family   *Family // nil until it was read
	of       *live   // whose family that is
	failed   error
	selected session.SnapshotRef // the snapshot whose details are shown
	detailed string              // what they say
	said     string              // what the note says

	loading bool
	stale   bool // what was read is no longer so
}

func newTreePage(w *Window) *treePage {
	p := &treePage{w: w, byRef: map[session.SnapshotRef]*treeRow{}, rows: container.New(layout.NewCustomPaddedVBoxLayout(0)), note: container.NewCenter(), detail: container.NewStack()}
	tool := func(text, hint string, icon fyne.Resource, f func(*live)) *button {
		b := w.button(text, plain, func() {
			if p.s != nil {
				f(p.s)
			}
		}).asSmall()
		b.hint, b.icon = hint, icon
		return b
	}
	t := &p.buttons
	t.keep = tool("Snapshot", "Keep this machine as it is now (Ctrl+Shift+S)", cameraIcon(colDim), w.askSnapshot)
	t.fork = tool("Fork…", "Let copies of this machine go on from here (Ctrl+Shift+D)", forkIcon(colDim), w.askForkNow)
	t.pause = tool("Pause", "Stop the machine's processors for a while", nil, w.pauseOrResume)
	t.suspend = tool("Suspend", "Put the machine on disk; it goes on when it is resumed, also after a restart of this computer", nil, w.suspend)
	p.tools = container.NewHBox(t.keep, t.fork, t.pause, t.suspend)
	p.detail.Hide()
	p.root = container.NewBorder(container.New(bar{8, 8, 8, 6}, p.tools), p.detail, nil, nil,
		container.NewStack(container.NewVScroll(container.New(bar{4, 0, 4, 8}, p.rows)), p.note))
	p.refresh()
	return p
}

func (w *Window) pauseOrResume(s *live) {
	if s.st.State == session.Running {
		w.pause(s)
		return
	}
	w.resumeAny(s)
}

// show turns to another session; nil shows none.
func (p *treePage) show(s *live) {
	if p.s == s {
		return
	}
	p.s, p.failed = s, nil
	p.reload()
	p.refresh()
}

// seen reports whether the page is in sight.
func (p *treePage) seen() bool {
	e := p.w.egress
	return e != nil && e.page == pageSnapshots && e.root.Visible()
}

// reload reads the family anew, once for many calls, and only when somebody looks.
func (p *treePage) reload() {
	p.stale = true
	if p.loading || p.s == nil || !p.seen() {
		return
	}
	p.loading, p.stale = true, false
	s := p.s
	p.w.spawn(func() {
		f, err := p.w.engine.Family(s.id)
		p.w.do(func() {
			p.loading = false
			if p.s == s {
				p.family, p.of, p.failed = &f, s, err
			}
			if p.stale || p.s != s {
				p.reload()
			}
			p.refresh()
		})
	})
}

// refresh draws what has changed.
func (p *treePage) refresh() {
	p.refreshTools()
	head, text := "", ""
	var act func(*live)
	var items []treeItem
	switch {
	case p.s == nil:
		head, text = "Nothing selected", "The snapshots of a session and what was forked from them show here."
	case p.failed != nil:
		head, text = "The snapshots could not be read", p.failed.Error()
	case p.family == nil || p.of != p.s:
		if p.family != nil && p.family.Find(session.SnapshotRef{Session: p.s.id}) != nil {
			return // the same tree but for the mark: it stays until it is read
		}
	case p.family.Root == nil || len(p.family.Root.Children) == 0:
		head, act = "No snapshot of "+p.s.st.Name+" yet", p.w.askSnapshot
		text = "A snapshot keeps the whole machine in mid-thought: go back to it when something goes wrong, or fork it to try two ways at once."
	default:
		items = flatten(p.family.Root)
	}
	if key := head + text; len(items) > 0 {
		p.said = ""
		p.note.Hide()
	} else if key != p.said || !p.note.Visible() {
		p.said = key
		p.say(head, text, act)
	}
	p.setRows(items)
	p.showDetail()
}

// say shows a note in the place of the tree. act, which may be nil, is what its button does.
func (p *treePage) say(head, text string, act func(*live)) {
	box := container.NewVBox(notice(head, text))
	if act != nil {
		b := p.w.button("Take a snapshot", loud, func() {
			if p.s != nil {
				act(p.s)
			}
		})
		box.Add(container.NewCenter(b))
	}
	p.w.probe.add("text", box, func() string { return head })
	p.note.Objects = []fyne.CanvasObject{box}
	p.note.Show()
	p.note.Refresh()
}

func (p *treePage) refreshTools() {
	t := &p.buttons
	keep := canKeep(p.s)
	able(t.keep, keep)
	able(t.fork, keep)
	able(t.suspend, canSuspend(p.s))
	text, can := "Pause", p.s != nil && p.s.busy() == "" && (living(p.s.st.State) && p.s.st.State != session.Starting || p.s.st.State == session.Suspended)
	if p.s != nil && (p.s.st.State == session.Paused || p.s.st.State == session.Suspended) {
		text = "Resume"
	}
	if t.pause.text != text {
		t.pause.text = text
		t.pause.Refresh()
		p.tools.Refresh()
	}
	able(t.pause, can)
}

func able(b *button, can bool) {
	switch {
	case can && b.Disabled():
		b.Enable()
	case !can && !b.Disabled():
		b.Disable()
	}
}

// treeItem is a node with the lines that lead to it.
type treeItem struct {
	node  *snapshot.Node
	depth int
	last  bool   // of its parent's children
	lines []bool // of each level above its own: whether a line passes by on the left
}

// flatten lists the nodes of a tree as they stand below one another.
func flatten(root *snapshot.Node) []treeItem {
	var out []treeItem
	var add func(n *snapshot.Node, it treeItem)
	add = func(n *snapshot.Node, it treeItem) {
		it.node = n
		out = append(out, it)
		for i, c := range n.Children {
			child := treeItem{depth: it.depth + 1, last: i == len(n.Children)-1}
			if it.depth > 0 {
				child.lines = append(append([]bool{}, it.lines...), !it.last)
			}
			add(c, child)
		}
	}
	add(root, treeItem{last: true})
	return out
}

func (p *treePage) setRows(items []treeItem) {
	keep := map[session.SnapshotRef]bool{}
	var objects []fyne.CanvasObject
	for _, it := range items {
		ref := it.node.Ref
		keep[ref] = true
		r := p.byRef[ref]
		if r == nil {
			r = p.newRow(ref)
			p.byRef[ref] = r
		}
		r.set(it, p.family.Freed[ref], ref == p.selected, p.w)
		objects = append(objects, r)
	}
	for ref := range p.byRef {
		if !keep[ref] {
			delete(p.byRef, ref)
		}
	}
	same := len(objects) == len(p.rows.Objects)
	for i := 0; same && i < len(objects); i++ {
		same = objects[i] == p.rows.Objects[i]
	}
	if !same {
		p.rows.Objects = objects
		p.rows.Refresh()
	}
}

func (p *treePage) newRow(ref session.SnapshotRef) *treeRow {
	r := newTreeRow()
	r.onTap = func() {
		if ref.Snapshot == "" {
			p.w.openSession(ref.Session)
			return
		}
		p.selectSnapshot(ref)
	}
	r.onHint = p.w.hint
	p.w.probe.add("node", r, func() string {
		if p.byRef[ref] != r {
			return ""
		}
		return r.name()
	})
	return r
}

// selectSnapshot shows the details of a snapshot and what can be done with it; the zero value shows none.
func (p *treePage) selectSnapshot(ref session.SnapshotRef) {
	if p.selected == ref {
		ref = session.SnapshotRef{}
	}
	p.selected = ref
	p.refresh()
}

// node is a snapshot in the tree; nil when it is not there.
func (p *treePage) node(ref session.SnapshotRef) *snapshot.Node {
	if p.family == nil || ref.Snapshot == "" {
		return nil
	}
	return p.family.Find(ref)
}

func (p *treePage) showDetail() {
	n := p.node(p.selected)
	if n == nil {
		if p.detail.Visible() {
			p.detail.Hide()
			p.detailed = ""
			p.root.Refresh()
		}
		return
	}
	s := p.w.sessions[n.Ref.Session]
	lines := snapshotDetail(n, p.family.Freed[n.Ref])
	key := n.Ref.String() + strings.Join(lines, "\n")
	if s != nil {
		key += s.busy() + string(s.st.State)
	}
	if key == p.detailed {
		return
	}
	p.detailed = key
	head := boldText(n.Name(), colText, textBody)
	closeIt := p.w.button("", quiet, func() { p.selectSnapshot(p.selected) }).asSmall().withIcon(closeIcon())
	closeIt.hint = "Close the details"
	box := container.New(layout.NewCustomPaddedVBoxLayout(4), container.NewBorder(nil, nil, head, closeIt))
	for _, l := range lines {
		box.Add(paragraphSmall(l))
	}
	buttons := container.NewHBox()
	if n.Snapshot.Broken == nil && s != nil {
		restore := p.w.button("Restore…", loud, func() { p.w.askRestore(s, n) }).asSmall()
		restore.hint = "Bring " + s.st.Name + " back to this moment"
		fork := p.w.button("Fork this…", plain, func() { p.w.askFork(s, n.Ref) }).asSmall()
		fork.hint = "Let new sessions go on from this moment"
		able(restore, s.busy() == "" && s.st.State != session.Starting)
		able(fork, s.busy() == "")
		buttons.Add(restore)
		buttons.Add(fork)
	}
	family := *p.family
	buttons.Add(p.w.button("Remove…", danger, func() { p.w.askRemoveSnapshot(n, family) }).asSmall())
	box.Add(container.New(bar{0, 2, 0, 0}, buttons))
	p.detail.Objects = []fyne.CanvasObject{canvas.NewRectangle(colPanel), container.New(bar{12, 6, 8, 10}, box)}
	p.detail.Show()
	p.detail.Refresh()
	p.root.Refresh()
}

// snapshotDetail is what is known of a snapshot, in lines.
func snapshotDetail(n *snapshot.Node, freed int64) []string {
	if err := n.Snapshot.Broken; err != nil {
		out := []string{sentence(err.Error()) + "."}
		if hint := session.Hint(err); hint != "" {
			out = append(out, "Next: "+hint)
		}
		return append(out, "Removing it gives "+traffic.Size(freed)+" back.")
	}
	m := &n.Snapshot.Manifest
	var out []string
	if m.Note != "" {
		out = append(out, "“"+m.Note+"”")
	}
	holds := "Memory and disk of " + m.Session.Name + ": every program goes on"
	if m.Kind == snapshot.Disk {
		holds = "The disk of " + m.Session.Name + ": its machine boots on it"
	}
	return append(out, holds+".", "Taken "+m.Created.Local().Format("2 January 15:04:05")+". Removing it gives "+traffic.Size(freed)+" back.")
}
