package ui

import (
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
)

// dialogBox is a dialog over the window. Escape and the window's own buttons close it.
type dialogBox struct {
	w        *Window
	pop      *widget.PopUp
	onCancel func()
	accept   func() // what Return does; may be nil
}

// dialog shows content under a title. Buttons stand at the right, the last one rightmost.
func (w *Window) dialog(title string, mark fyne.Resource, width float32, content fyne.CanvasObject, buttons ...fyne.CanvasObject) *dialogBox {
	head := container.NewHBox()
	if mark != nil {
		img := canvas.NewImageFromResource(mark)
		img.FillMode = canvas.ImageFillContain
		head.Add(container.New(fixed{22, 22}, img))
	}
	t := boldText(title, colText, 16)
	head.Add(t)
	w.probe.add("text", t, func() string { return title })
	row := container.NewHBox(layout.NewSpacer())
	for _, b := range buttons {
		row.Add(b)
	}
	parts := []fyne.CanvasObject{head, content}
	if len(buttons) > 0 {
		parts = append(parts, container.New(bar{0, 6, 0, 0}, row))
	}
	box := container.New(layout.NewCustomPaddedVBoxLayout(12), parts...)
	// Never wider than the window.
	width = min(width, w.win.Canvas().Size().Width-60)
	d := &dialogBox{w: w}
	d.pop = widget.NewModalPopUp(container.New(bar{20, 18, 20, 16}, container.New(fixed{width: width}, box)), w.win.Canvas())
	w.dialogs = append(w.dialogs, d)
	d.pop.Show()
	return d
}

// close takes the dialog away; its onCancel is not called.
func (d *dialogBox) close() {
	i := slices.Index(d.w.dialogs, d)
	if i < 0 {
		return
	}
	d.w.dialogs = slices.Delete(d.w.dialogs, i, i+1)
	d.pop.Hide()
	d.w.focusTerminal()
}

func (d *dialogBox) cancel() {
	f := d.onCancel
	d.close()
	if f != nil {
		f()
	}
}

// escape closes the dialog in front; it reports whether there was one.
func (w *Window) escape() bool {
	if len(w.dialogs) == 0 {
		return false
	}
	w.dialogs[len(w.dialogs)-1].cancel()
	return true
}

// showError tells of a failure with its next step. retry may be nil.
func (w *Window) showError(title string, err error, retry func()) {
	w.showProblem(title, err.Error(), session.Hint(err), nil, retry)
}

// showFailure tells that a session has failed, with the machine's last words.
func (w *Window) showFailure(st session.Status) {
	title := st.Name + " could not start"
	if !st.Started.IsZero() {
		title = st.Name + " has failed"
	}
	w.showProblem(title, st.Error, st.Hint, st.Console, nil)
}

func (w *Window) showProblem(title, text, hint string, console []string, retry func()) {
	body := container.New(layout.NewCustomPaddedVBoxLayout(10))
	if text != "" {
		body.Add(paragraph(text))
		probeText := body.Objects[len(body.Objects)-1]
		w.probe.add("text", probeText, func() string { return text })
	}
	if hint != "" {
		body.Add(hintBox(hint))
	}
	if len(console) > 0 {
		body.Add(section("THE MACHINE'S LAST WORDS"))
		body.Add(consoleBox(console))
	}
	var d *dialogBox
	all := strings.TrimSpace(strings.Join(append([]string{title, text, hint}, console...), "\n"))
	buttons := []fyne.CanvasObject{w.button("Copy", plain, func() { w.copyText(all) })}
	closing := w.button("Close", loud, func() { d.cancel() })
	if retry != nil {
		closing.look = plain
		buttons = append(buttons, closing, w.button("Try again", loud, func() { d.close(); retry() }))
	} else {
		buttons = append(buttons, closing)
	}
	d = w.dialog(title, svg("problem", iconProblem), 520, body, buttons...)
	d.accept = d.cancel
	w.log.Warn(title, "error", text, "hint", hint)
}

// confirm asks before something that cannot be taken back. The safe answer is the one that Return gives.
func (w *Window) confirm(title, text, yes string, l look, then func()) {
	var d *dialogBox
	no := w.button("Cancel", plain, func() { d.cancel() })
	do := w.button(yes, l, func() { d.close(); then() })
	body := paragraph(text)
	w.probe.add("text", body, func() string { return text })
	d = w.dialog(title, nil, 420, body, no, do)
	w.win.Canvas().Focus(no)
}

// below is the place under an object, for a menu.
func (w *Window) below(o fyne.CanvasObject) fyne.Position {
	return w.app.Driver().AbsolutePositionForObject(o).AddXY(0, o.Size().Height+2)
}

// popUp shows a menu at a place.
func (w *Window) popUp(m *fyne.Menu, at fyne.Position) {
	menu := widget.NewPopUpMenu(m, w.win.Canvas())
	for _, it := range m.Items {
		if it.Action != nil {
			act := it.Action
			it.Action = func() { act(); w.focusTerminal() }
		}
	}
	menu.ShowAtPosition(at)
}
