package terminal

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/widget"
)

// showMenu opens the menu of the right button.
func (t *Terminal) showMenu(at fyne.Position) {
	c := fyne.CurrentApp().Driver().CanvasForObject(t)
	if c == nil {
		return
	}
	item := func(label, keys string, f func()) *fyne.MenuItem {
		if keys != "" {
			label += "  (" + keys + ")"
		}
		return fyne.NewMenuItem(label, f)
	}
	cp := item("Copy", "Ctrl+Shift+C", t.Copy)
	cp.Disabled = t.SelectedText() == ""
	paste := item("Paste", "Ctrl+Shift+V", t.PasteClipboard)
	paste.Disabled = !t.Attached()
	items := []*fyne.MenuItem{
		cp, paste,
		item("Select all", "Ctrl+Shift+A", t.SelectAll),
		fyne.NewMenuItemSeparator(),
		item("Find…", "Ctrl+Shift+F", t.ShowSearch),
		item("Clear scrollback", "", t.ClearScrollback),
		fyne.NewMenuItemSeparator(),
		item("Larger text", "Ctrl++", func() { t.Zoom(1) }),
		item("Smaller text", "Ctrl+−", func() { t.Zoom(-1) }),
		item("Normal text", "Ctrl+0", func() { t.SetFontSize(t.opt.FontSize) }),
	}
	if x, y := t.pointer.x, t.pointer.y; t.OnLink != nil {
		if uri, _ := t.current().LinkAt(t.position(x, y)); uri != "" {
			items = append([]*fyne.MenuItem{
				fyne.NewMenuItem("Open link…", func() { t.OnLink(uri) }),
				fyne.NewMenuItem("Copy link", func() { fyne.CurrentApp().Clipboard().SetContent(uri) }),
				fyne.NewMenuItemSeparator(),
			}, items...)
		}
	}
	widget.ShowPopUpMenuAtPosition(fyne.NewMenu("", items...), c, at)
}
