package ui

import (
	"fmt"
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
	"capsid/app/ui/traffic"
)

// startView shows the steps of a start as they happen.
type startView struct {
	p     *pane
	root  fyne.CanvasObject
	steps *fyne.Container
	total *canvas.Text
	stop  *button
	shown string
	bar   *widget.ProgressBarInfinite
}

func newStartView(p *pane) *startView {
	v := &startView{p: p, steps: container.New(layout.NewCustomPaddedVBoxLayout(6)), total: newText("", colDim, textSmall)}
	mark := canvas.NewImageFromResource(p.w.mark(p.s.st.Agent))
	mark.FillMode = canvas.ImageFillContain
	head := container.NewHBox(container.New(fixed{26, 26}, mark), container.New(bar{6, 2, 0, 0}, boldText("Starting "+p.s.st.Name, colText, 18)))
	from := ""
	if parent := p.s.st.Parent; parent != nil {
		from = " · from snapshot " + parent.Snapshot
	}
	where := newText(tilde(workspaceText(p.s.st))+from, colDim, textSmall)
	where.TextStyle.Monospace = true
	v.bar = widget.NewProgressBarInfinite()
	v.stop = p.w.button("Cancel", plain, func() { p.w.cancelStart(p.s) })
	v.stop.hint = "Stop and take everything away again"
	if p.s.task != nil {
		v.stop.hint = "Leave it as it was"
	}
	box := container.New(layout.NewCustomPaddedVBoxLayout(8), head, where, container.New(fixed{height: 3}, v.bar),
		container.New(bar{0, 8, 0, 8}, v.steps), container.NewHBox(v.stop, layout.NewSpacer(), container.NewCenter(v.total)))
	v.root = container.NewCenter(container.New(fixed{width: 460}, box))
	return v
}

func (v *startView) refresh() {
	st := v.p.s.st
	key := fmt.Sprintf("%v", st.Steps)
	if key == v.shown && v.shown != "" {
		return
	}
	v.shown = key
	v.steps.Objects = v.steps.Objects[:0]
	var sum time.Duration
	for _, s := range st.Steps {
		line := stepLine(s, true)
		v.p.w.probe.add("text", line, func() string { return "step " + s.Name })
		v.steps.Add(line)
		sum += s.Duration
	}
	if len(st.Steps) == 0 {
		v.steps.Add(newText("Starting the supervisor…", colDim, textBody))
	}
	v.steps.Refresh()
	setText(v.total, traffic.Took(sum), colDim)
}

// newGoneView stands where a terminal would be when the session does not run and none was seen.
func newGoneView(p *pane) fyne.CanvasObject {
	st, w := p.s.st, p.w
	box := container.New(layout.NewCustomPaddedVBoxLayout(8))
	title, c := st.Name+" has stopped", colText
	if st.State == session.Suspended {
		title = st.Name + " is suspended"
	}
	if st.State == session.Failed {
		title, c = st.Name+" could not start", colBad
		if !st.Started.IsZero() {
			title = st.Name + " has failed"
		}
	}
	head := boldText(title, c, 18)
	w.probe.add("text", head, func() string { return title })
	box.Add(head)
	if !st.Ended.IsZero() {
		box.Add(newText("on "+st.Ended.Local().Format("2 January 15:04")+", "+workspaceText(st), colDim, textSmall))
	}
	if st.State == session.Suspended {
		box.Add(paragraph("Its machine is on disk, as the snapshot " + st.Suspended + ". Resume lets every program go on where it was, also after this computer was restarted."))
	}
	if st.Error != "" {
		box.Add(paragraph(st.Error))
	}
	if st.Hint != "" {
		box.Add(hintBox(st.Hint))
	}
	if len(st.Steps) > 0 && st.State == session.Failed {
		steps := container.New(layout.NewCustomPaddedVBoxLayout(4))
		for _, s := range st.Steps {
			steps.Add(stepLine(s, false))
		}
		box.Add(steps)
	}
	if len(st.Console) > 0 {
		box.Add(section("THE MACHINE'S LAST WORDS"))
		box.Add(consoleBox(st.Console))
	}
	buttons := container.NewHBox()
	if st.State == session.Suspended {
		buttons.Add(w.button("Resume", loud, func() { w.wake(p.s) }))
	}
	for _, a := range w.agents {
		if a.Name == st.Agent && st.State != session.Suspended {
			buttons.Add(w.button("New "+a.Title+" here", loud, func() { w.newSessionIn(a, st.Workspace) }))
		}
	}
	if len(st.Console) > 0 || st.Error != "" {
		buttons.Add(w.button("Copy", plain, func() { w.copyText(failureText(st)) }))
	}
	if p.s.ghost {
		buttons.Add(w.button("Close tab", quiet, func() { w.closePane(p) }))
	} else {
		buttons.Add(w.button("Remove…", quiet, func() { w.askRemove(p.s) }))
	}
	box.Add(buttons)
	return container.NewCenter(container.New(fixed{width: 560}, box))
}

// paragraph is wrapped text that begins at the very edge, as titles do.
func paragraph(text string) *fyne.Container {
	l := widget.NewLabel(text)
	l.Wrapping = fyne.TextWrapWord
	l.Selectable = true
	return container.New(bar{left: -6, right: -6}, l)
}

// hintBox is the next step for a person.
func hintBox(text string) fyne.CanvasObject {
	l := widget.NewLabel(text)
	l.Wrapping = fyne.TextWrapWord
	l.Selectable = true
	return container.NewStack(fill(alpha(colAccent, 0x1c), 6), container.New(bar{8, 2, 8, 2},
		container.NewBorder(nil, nil, container.New(bar{0, 6, 2, 0}, container.NewVBox(boldText("Next", colAccent, textSmall))), nil, l)))
}

// consoleBox holds console lines: monospaced, scrolled, selectable.
func consoleBox(lines []string) fyne.CanvasObject {
	l := widget.NewLabel(strings.Join(lines, "\n"))
	l.TextStyle.Monospace = true
	l.Selectable = true
	l.SizeName = "helperText"
	scroll := container.NewScroll(l)
	return container.NewStack(fill(rgb(0x0e1116), 6), container.New(fixed{height: min(24+15*float32(len(lines)), 180)}, scroll))
}

// failureText is all that is known about a failure, to be copied.
func failureText(st session.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "session %s (%s): %s\n%s\n", st.Name, st.ID, st.State, st.Error)
	if st.Hint != "" {
		fmt.Fprintf(&b, "next: %s\n", st.Hint)
	}
	for _, s := range st.Steps {
		fmt.Fprintf(&b, "step %s %s %s\n", s.Name, traffic.Took(s.Duration), s.Detail)
	}
	for _, l := range st.Console {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}
