package ui

import (
	"fmt"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"capsid/app/ui/traffic"
	"capsid/proxy/ledger"
)

// livePage lists the requests of the selected session as they happen, the newest at the bottom; the list follows while its end is in sight.
type livePage struct {
	w      *Window
	root   fyne.CanvasObject
	filter *widget.Entry
	count  *canvas.Text
	list   *widget.List
	note   *fyne.Container
	detail *fyne.Container

	live     *traffic.Live
	rows     []*ledger.Entry
	selected int64 // ID of the row whose details are shown
	detailed *ledger.Entry
}

func newLivePage(w *Window) *livePage {
	p := &livePage{w: w, filter: widget.NewEntry(), count: newText("", colFaint, textSmall)}
	p.filter.SetPlaceHolder("Filter: words of host, path, method… (-word leaves out)")
	p.filter.OnChanged = func(text string) {
		if p.live != nil {
			p.live.SetFilter(text)
			p.refresh()
		}
	}
	w.probe.add("entry", p.filter, func() string { return "filter" })
	p.list = widget.NewList(func() int { return len(p.rows) },
		func() fyne.CanvasObject {
			r := newLiveRow()
			w.probe.add("row", r, r.name)
			return r
		},
		func(i widget.ListItemID, o fyne.CanvasObject) {
			if i < len(p.rows) {
				o.(*liveRow).set(p.rows[i])
			}
		})
	p.list.HideSeparators = true
	p.list.OnSelected = func(i widget.ListItemID) {
		if i < len(p.rows) {
			p.selected = p.rows[i].ID
			p.showDetail(p.rows[i])
		}
	}
	tight := &denseTheme{w.theme}
	p.note = container.NewCenter()
	p.detail = container.NewStack()
	p.detail.Hide()
	top := container.New(bar{8, 8, 8, 4}, container.NewBorder(nil, nil, nil, container.New(bar{6, 0, 2, 0}, p.count), container.NewThemeOverride(p.filter, &entryTheme{w.theme})))
	p.root = container.NewBorder(container.NewVBox(top, newLiveHeader()), p.detail, nil, nil, container.NewStack(container.NewThemeOverride(p.list, tight), p.note))
	p.say("Nothing selected", "Requests of the selected session appear here as they happen.")
	return p
}

// show turns to another session's rows; nil shows none.
func (p *livePage) show(live *traffic.Live) {
	if p.live == live {
		p.refresh()
		return
	}
	p.live, p.rows, p.selected = live, nil, 0
	p.detail.Hide()
	p.list.UnselectAll()
	text := ""
	if live != nil {
		text = live.Filter()
	}
	if p.filter.Text != text {
		p.filter.SetText(text)
	}
	p.refresh()
	p.list.ScrollToBottom()
}

// refresh takes up what has come since. It runs at most a few times a second, however much comes.
func (p *livePage) refresh() {
	if p.live == nil {
		p.rows = nil
		p.count.Text = ""
		p.say("Nothing selected", "Requests of the selected session appear here as they happen.")
		p.list.Refresh()
		return
	}
	atEnd := p.atEnd()
	p.rows = p.live.Rows()
	total := p.live.Count()
	text := fmt.Sprint(total)
	if len(p.rows) != total {
		text = fmt.Sprintf("%d of %d", len(p.rows), total)
	}
	setText(p.count, text, colFaint)
	switch {
	case total == 0:
		p.say("No requests yet", "Whatever a program in the machine asks of the network shows here, allowed or not.")
	case len(p.rows) == 0:
		p.say("No row has these words", "")
	default:
		p.note.Hide()
	}
	p.list.Refresh()
	if atEnd {
		p.list.ScrollToBottom()
	}
	if p.selected != 0 {
		for _, e := range p.rows {
			if e.ID == p.selected {
				p.showDetail(e)
			}
		}
	}
}

// atEnd reports whether the last row is in sight.
func (p *livePage) atEnd() bool {
	content := float32(len(p.rows)) * liveRowHeight
	return p.list.GetScrollOffset()+p.list.Size().Height >= content-2*liveRowHeight
}

func (p *livePage) say(head, text string) {
	p.note.Objects = []fyne.CanvasObject{notice(head, text)}
	p.note.Show()
	p.note.Refresh()
}

func (p *livePage) showDetail(e *ledger.Entry) {
	if p.detailed == e && p.detail.Visible() {
		return
	}
	p.detailed = e
	form := container.New(layout.NewFormLayout())
	for _, line := range liveDetail(e) {
		v := widget.NewLabel(line[1])
		v.Wrapping = fyne.TextWrapBreak
		v.TextStyle.Monospace = line[0] == traffic.Method(e)
		v.SizeName = theme.SizeNameCaptionText
		v.Selectable = true
		form.Add(newText(line[0], colFaint, textSmall))
		form.Add(v)
	}
	what := e.URL
	if what == "" {
		what = e.Host
	}
	copyIt := p.w.button("Copy", quiet, func() { p.w.copyText(what) }).asSmall()
	closeIt := p.w.button("", quiet, func() {
		p.selected = 0
		p.detail.Hide()
		p.list.UnselectAll()
		p.root.Refresh()
	}).asSmall().withIcon(closeIcon())
	closeIt.hint = "Close the details"
	p.detail.Objects = []fyne.CanvasObject{
		canvas.NewRectangle(colPanel),
		container.New(bar{10, 6, 6, 8}, container.NewBorder(nil, nil, nil, container.NewVBox(container.NewHBox(copyIt, closeIt)),
			container.NewThemeOverride(form, &denseTheme{p.w.theme}))),
	}
	wasHidden := !p.detail.Visible()
	p.detail.Show()
	p.detail.Refresh()
	if wasHidden {
		p.root.Refresh()
	}
}

// notice is the text of an empty list.
func notice(head, text string) fyne.CanvasObject {
	h := widget.NewLabelWithStyle(head, fyne.TextAlignCenter, fyne.TextStyle{Bold: true})
	h.Importance = widget.LowImportance
	if text == "" {
		return h
	}
	t := widget.NewLabelWithStyle(text, fyne.TextAlignCenter, fyne.TextStyle{})
	t.Wrapping = fyne.TextWrapWord
	t.SizeName = theme.SizeNameCaptionText
	t.Importance = widget.LowImportance
	return container.New(fixed{width: 260}, container.NewVBox(h, t))
}

// denseTheme takes the space between rows away.
type denseTheme struct{ fyne.Theme }

// Size is called by Fyne.
func (d *denseTheme) Size(n fyne.ThemeSizeName) float32 {
	switch n {
	case theme.SizeNamePadding:
		return 0
	case theme.SizeNameInnerPadding:
		return 3
	}
	return d.Theme.Size(n)
}

// entryTheme makes a line of input as high as a small button.
type entryTheme struct{ fyne.Theme }

// Size is called by Fyne.
func (d *entryTheme) Size(n fyne.ThemeSizeName) float32 {
	switch n {
	case theme.SizeNameText:
		return 12
	case theme.SizeNameInnerPadding:
		return 4
	}
	return d.Theme.Size(n)
}
