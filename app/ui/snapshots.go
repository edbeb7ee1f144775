package ui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/app/ui/traffic"
)

// canKeep reports whether a snapshot can be taken of a session now: of one that has ended, the disk.
func canKeep(s *live) bool {
	return s != nil && s.busy() == "" && !s.ghost && s.st.State != session.Starting && s.st.State != session.Suspended
}

// canSuspend reports whether its machine can be put on disk now.
func canSuspend(s *live) bool { return canKeep(s) && living(s.st.State) }

// mayKeep is canKeep, and tells why not.
func (w *Window) mayKeep(s *live) bool {
	switch {
	case canKeep(s):
		return true
	case s.busy() != "":
		w.note(s.st.Name+" is busy: "+s.busy()+". Wait for its end, or cancel it", true)
	case s.st.State == session.Suspended:
		w.note(s.st.Name+" is suspended: that is a snapshot already, "+s.st.Suspended, true)
	default:
		w.note(s.st.Name+" is "+string(s.st.State)+": it can be kept once it runs", true)
	}
	return false
}

// askSnapshot asks for a name and a note, both of which may be left out.
func (w *Window) askSnapshot(s *live) {
	if len(w.dialogs) > 0 || !w.mayKeep(s) {
		return
	}
	name, note := newLineEntry(false), newLineEntry(false)
	name.SetPlaceHolder("snap-1 and so on, if left empty")
	note.SetPlaceHolder("what it is kept for, if you like")
	w.probe.add("entry", name, func() string { return "snapshot name" })
	w.probe.add("entry", note, func() string { return "note" })
	what := "Keeps memory, disk and every program of the machine as they are now. The machine goes on; you can come back to this moment, or fork it, at any time."
	if !living(s.st.State) {
		what = "Keeps the disk of the machine, which does not run now. You can come back to it, or fork it, at any time: the machine boots on it."
	}
	text := paragraph(what)
	label := text.Objects[0].(*widget.Label)
	w.probe.add("text", text, func() string { return label.Text })
	var d *dialogBox
	take := func() {
		r := session.SnapshotRequest{Name: strings.TrimSpace(name.Text), Note: strings.TrimSpace(note.Text)}
		err := snapshot.CheckNote(r.Note)
		if r.Name != "" && err == nil {
			err = snapshot.CheckName(r.Name)
		}
		if err != nil {
			label.Importance = widget.DangerImportance
			label.SetText(sentence(err.Error()) + ": " + session.Hint(err) + ".")
			return
		}
		d.close()
		w.takeSnapshot(s, r, nil)
	}
	form := container.New(layout.NewFormLayout(),
		container.New(bar{0, 0, 6, 0}, newText("Name", colDim, textBody)), name, container.New(bar{0, 0, 6, 0}, newText("Note", colDim, textBody)), note)
	d = w.dialog("Snapshot of "+s.st.Name, cameraIcon(colAccent), 440, container.New(layout.NewCustomPaddedVBoxLayout(8), text, form),
		w.button("Cancel", plain, func() { d.cancel() }), w.button("Take snapshot", loud, take))
	name.OnSubmitted, note.OnSubmitted = func(string) { take() }, func(string) { take() }
	name.onEscape, note.onEscape = d.cancel, d.cancel
	d.accept = take
	w.win.Canvas().Focus(name)
}

// takeSnapshot takes one, then calls then, which may be nil.
func (w *Window) takeSnapshot(s *live, r session.SnapshotRequest, then func()) {
	text := "Snapshot of " + s.st.Name
	if r.Name != "" {
		text += " (" + r.Name + ")"
	}
	var done session.SnapshotResult
	w.long(s, text, "No snapshot of "+s.st.Name+" was taken", func(ctx context.Context) (err error) {
		done, err = w.engine.Snapshot(ctx, s.id, r)
		return err
	}, func() {
		said := fmt.Sprintf("Snapshot %s is taken, %s", done.Name, traffic.Size(done.Bytes))
		if done.Rested > 0 {
			said += "; programs rested for " + traffic.Took(done.Rested)
		}
		w.note(said, false)
		if then != nil {
			then()
		}
	})
}

// suspend puts the machine on disk.
func (w *Window) suspend(s *live) {
	if !w.mayKeep(s) || !living(s.st.State) {
		return
	}
	client := w.engine.Client(s.id)
	w.long(s, "Suspending "+s.st.Name, s.st.Name+" could not be suspended", func(ctx context.Context) error {
		_, err := client.Suspend(ctx)
		return err
	}, func() { w.note(s.st.Name+" is suspended; Resume brings it back", false) })
}

// wake lets a suspended session go on.
func (w *Window) wake(s *live) {
	w.restore(s, session.SnapshotRef{Session: s.id, Snapshot: s.st.Suspended}, "Resuming "+s.st.Name, s.st.Name+" could not be resumed")
}

// restore brings a session to a snapshot of its own. A start's Cancel button cancels it too.
func (w *Window) restore(s *live, to session.SnapshotRef, text, failed string) {
	w.long(s, text, failed, func(ctx context.Context) error {
		_, err := w.engine.Restore(ctx, to, func(st session.Status) {
			w.do(func() {
				if st.State == session.Starting {
					s.cancel = func() { w.cancelTask(s) }
				}
				w.update(s, st)
				w.showSessions()
			})
		})
		return err
	}, func() {
		w.note(s.st.Name+" goes on from "+to.Snapshot, false)
		w.openSession(s.id)
	})
	w.openSession(s.id)
}

// askRestore says what is lost, and offers to keep it.
func (w *Window) askRestore(s *live, n *snapshot.Node) {
	name, snap := s.st.Name, n.Name()
	text := name + " goes back to " + snap + ", taken " + traffic.Ago(w.now(), n.Created()) + ". "
	switch {
	case s.st.State == session.Suspended:
		text += "Where it is suspended now stays as the snapshot " + s.st.Suspended + "."
	default:
		text += "What it did since then is lost: its programs, and the files in its machine, unless a snapshot keeps them. Files in the shared folder, its other snapshots and its record of requests stay."
	}
	if n.Snapshot.Manifest.Kind == snapshot.Disk {
		text += " This one holds no memory: the machine boots on its disk."
	}
	back := func() { w.restore(s, n.Ref, "Restoring "+name+" to "+snap, name+" could not go back to "+snap) }
	var d *dialogBox
	no := w.button("Cancel", plain, func() { d.cancel() })
	buttons := []fyne.CanvasObject{no, w.button("Restore", danger, func() { d.close(); back() })}
	if canKeep(s) {
		buttons = append(buttons, w.button("Snapshot first, then restore", loud, func() {
			d.close()
			w.takeSnapshot(s, session.SnapshotRequest{Note: "before the restore of " + snap}, back)
		}))
	}
	d = w.dialog("Restore "+name+" to "+snap+"?", nil, 460, paragraph(text), buttons...)
	w.win.Canvas().Focus(no)
}

// askRemoveSnapshot asks, and once more when others came from it.
func (w *Window) askRemoveSnapshot(n *snapshot.Node, f Family) {
	s := w.sessions[n.Ref.Session]
	text := "It gives " + traffic.Size(f.Freed[n.Ref]) + " of disk back. Nothing can go back to this moment then."
	if s != nil && s.st.State == session.Suspended && s.st.Suspended == n.Ref.Snapshot {
		text += " " + s.st.Name + " is suspended in it: it cannot go on without it."
	}
	w.confirm("Remove snapshot "+n.Name()+"?", text, "Remove", danger, func() {
		w.removeSnapshots([]session.SnapshotRef{n.Ref}, "Snapshot "+n.Name()+" is removed", func(err error) {
			if !errors.Is(err, snapshot.ErrChildren) || len(f.Below[n.Ref]) == 0 {
				w.showError("Snapshot "+n.Name()+" could not be removed", err, nil)
				return
			}
			w.offerAll(n, f)
		})
	})
}

// offerAll names what came from a snapshot, and offers to remove it all.
func (w *Window) offerAll(n *snapshot.Node, f Family) {
	below := f.Below[n.Ref]
	var snaps, sessions []string
	size := f.Freed[n.Ref]
	for _, ref := range below {
		size += f.Freed[ref]
		name := ref.String()
		if b := f.Find(ref); b != nil {
			name = b.Name()
		}
		if ref.Snapshot == "" {
			sessions = append(sessions, name)
		} else {
			snaps = append(snaps, name)
		}
	}
	text := "These came from it, and would not be found in the tree any more:"
	if len(sessions) > 0 {
		text += "\n\nSessions: " + strings.Join(sessions, ", ") + ". They are stopped, and removed with their disks and snapshots."
	}
	if len(snaps) > 0 {
		text += "\n\nSnapshots: " + strings.Join(snaps, ", ") + "."
	}
	text += "\n\nAll of it gives " + traffic.Size(size) + " of disk back."
	all := append(append([]session.SnapshotRef{}, below...), n.Ref)
	w.confirm(n.Name()+" has children", text, "Remove all of them", danger, func() {
		w.removeSnapshots(all, fmt.Sprintf("%s and %d that came from it are removed", n.Name(), len(below)), func(err error) {
			w.showError("Not all of it could be removed", err, nil)
		})
	})
}

func (w *Window) removeSnapshots(refs []session.SnapshotRef, done string, failed func(error)) {
	w.note("Removing…", false)
	w.spawn(func() {
		err := w.engine.RemoveSnapshots(refs)
		w.do(func() {
			w.note("", false)
			if err != nil {
				failed(err)
			} else {
				w.note(done, false)
			}
			w.egress.tree.reload()
		})
		w.reload()
	})
}

// askFork asks how many sessions go on from a snapshot, or from the present moment where ref names none.
func (w *Window) askFork(s *live, ref session.SnapshotRef) {
	if len(w.dialogs) > 0 || ref.Snapshot == "" && !w.mayKeep(s) {
		return
	}
	disk := !living(s.st.State)
	from, text := s.st.Name, "Keeps "+s.st.Name+" as it is now, and lets copies of it go on from there."
	if ref.Snapshot != "" {
		n := w.egress.tree.node(ref)
		disk = n != nil && n.Snapshot.Manifest.Kind == snapshot.Disk
		from, text = ref.Snapshot, "Makes sessions that go on from "+ref.Snapshot+" of "+s.st.Name+"."
	}
	carryOn := "; every program and terminal carries on in each"
	if disk {
		carryOn = ", and boots on that disk"
	}
	count := newStepper(w, 1, snapshot.MaxForks)
	var d *dialogBox
	fork := func() {
		if n := count.value(); n > 0 {
			d.close()
			w.fork(s, ref, n)
		}
	}
	body := container.New(layout.NewCustomPaddedVBoxLayout(10),
		paragraph(text+" Each has a machine, a disk and an identity of its own"+carryOn+". They share the folder "+tilde(workspaceText(s.st))+"."),
		container.NewHBox(container.NewCenter(newText("How many", colDim, textBody)), count.root, container.NewCenter(newText(fmt.Sprintf("1 to %d", snapshot.MaxForks), colFaint, textSmall))))
	d = w.dialog("Fork "+from, forkIcon(colAccent), 440, body, w.button("Cancel", plain, func() { d.cancel() }), w.button("Fork", loud, fork))
	count.entry.onEscape, count.entry.OnSubmitted = d.cancel, func(string) { fork() }
	d.accept = fork
	w.win.Canvas().Focus(count.entry)
}

// askForkNow forks the present moment.
func (w *Window) askForkNow(s *live) { w.askFork(s, session.SnapshotRef{Session: s.id}) }

// fork makes sessions; each shows as soon as there is one, the first beside its parent.
func (w *Window) fork(s *live, ref session.SnapshotRef, count int) {
	what := s.st.Name
	if ref.Snapshot != "" {
		what = ref.Snapshot + " of " + what
	}
	text := fmt.Sprintf("Forking %s ×%d", what, count)
	var children []*live // the UI goroutine's
	var list []session.Status
	w.long(s, text, what+" could not be forked", func(ctx context.Context) (err error) {
		list, err = w.engine.Fork(ctx, ref, count, func(st session.Status) { w.do(func() { children = w.forking(s, children, st) }) })
		w.do(func() {
			for _, c := range children {
				c.cancel = nil
			}
		})
		return err
	}, func() {
		names := make([]string, len(list))
		for i, st := range list {
			names[i] = st.Name
		}
		slices.Sort(names) // they came up in any order
		w.note("Forked: "+strings.Join(names, ", "), false)
	})
}

// forking follows one child of a fork.
func (w *Window) forking(parent *live, children []*live, st session.Status) []*live {
	c := w.session(st)
	isNew := true
	for _, o := range children {
		isNew = isNew && o != c
	}
	if c.cancel = nil; st.State == session.Starting {
		c.cancel = func() { w.cancelTask(parent) }
	}
	w.update(c, st)
	if isNew {
		children = append(children, c)
		if len(children) == 1 {
			w.openBeside(c, parent)
		}
	}
	w.showSessions()
	return children
}

// stepper is a number between bounds that is typed, or stepped with buttons or the arrow keys.
type stepper struct {
	root     fyne.CanvasObject
	entry    *lineEntry
	from, to int
}

func newStepper(w *Window, from, to int) *stepper {
	s := &stepper{entry: newLineEntry(true), from: from, to: to}
	s.entry.SetText(strconv.Itoa(from))
	s.entry.onStep = s.step
	w.probe.add("entry", s.entry, func() string { return "count" })
	less, more := w.button("−", plain, func() { s.step(-1) }), w.button("+", plain, func() { s.step(1) })
	less.hint, more.hint = "One less (arrow down)", "One more (arrow up)"
	s.root = container.NewHBox(less, container.New(fixed{width: 44}, s.entry), more)
	return s
}

// value is 0 while what stands there is no number within the bounds.
func (s *stepper) value() int {
	n, err := strconv.Atoi(strings.TrimSpace(s.entry.Text))
	if err != nil || n < s.from || n > s.to {
		return 0
	}
	return n
}

func (s *stepper) step(by int) {
	s.entry.SetText(strconv.Itoa(min(max(s.value()+by, s.from), s.to)))
}
