package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// welcome fills the middle while no tab is open.
type welcome struct {
	w       *Window
	root    fyne.CanvasObject
	title   *canvas.Text
	text    *widget.Label
	buttons *fyne.Container
	image   *fyne.Container
	key     string
}

func newWelcome(w *Window) *welcome {
	v := &welcome{w: w, title: boldText("", colText, 22), text: widget.NewLabel(""), buttons: container.NewGridWithColumns(2), image: container.NewStack()}
	v.text.Wrapping = fyne.TextWrapWord
	v.title.Alignment = fyne.TextAlignCenter
	v.text.Alignment = fyne.TextAlignCenter
	parts := []fyne.CanvasObject{}
	if w.cfg.Icon != nil {
		icon := canvas.NewImageFromResource(w.cfg.Icon)
		icon.FillMode = canvas.ImageFillContain
		parts = append(parts, container.NewCenter(container.New(fixed{72, 72}, icon)))
	}
	parts = append(parts, v.title, v.text, container.New(bar{40, 6, 40, 6}, v.buttons), v.image)
	v.root = container.NewCenter(container.New(fixed{width: 460}, container.New(layout.NewCustomPaddedVBoxLayout(10), parts...)))
	v.image.Hide()
	return v
}

// refresh is called often; it does something only when there is something new to say.
func (v *welcome) refresh() {
	w := v.w
	key := ""
	for _, a := range w.agents {
		key += a.Name + " "
	}
	if len(w.order) == 0 {
		key += "none"
	}
	if w.noImage {
		key += " no image"
	}
	if key == v.key {
		return
	}
	v.key = key
	if len(w.order) == 0 {
		v.title.Text = "A machine for your agent"
		v.text.SetText("Choose what to start and the folder it may work in. It gets a Linux machine of its own; everything it asks of the network shows on the right, and nothing unlisted leaves without your click.")
	} else {
		v.title.Text = "No tab is open"
		v.text.SetText("Sessions go on without a tab. Click one on the left, or start another.")
	}
	v.title.Refresh()
	v.buttons.RemoveAll()
	for i, a := range w.agents {
		l := plain
		if i == 0 {
			l = loud
		}
		v.buttons.Add(w.button("Start "+a.Title, l, func() { w.newSession(a) }).withIcon(w.mark(a.Name)))
	}
	v.image.Objects = nil
	if w.noImage {
		note := widget.NewLabel("The first start builds the machines' image: about a gigabyte of disk and some minutes, once.")
		note.Wrapping = fyne.TextWrapWord
		note.Alignment = fyne.TextAlignCenter
		note.SizeName = theme.SizeNameCaptionText
		note.Importance = widget.LowImportance
		build := w.button("Build the image now", quiet, func() { w.offerImage(nil) })
		v.image.Objects = []fyne.CanvasObject{container.NewVBox(note, container.NewCenter(build))}
	}
	show(v.image, w.noImage)
	v.image.Refresh()
}
