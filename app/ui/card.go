package ui

import (
	"fmt"
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/widget"

	"capsid/app/ui/traffic"
)

const cardHeight = 98

// card is one group of the Blocked list, with what a person may decide about it. Lists reuse it for other groups.
type card struct {
	widget.BaseWidget
	w   *Window
	c   traffic.Card
	now time.Time

	session, project, always, block, more, undo *button
}

func newCard(w *Window) *card {
	k := &card{w: w}
	decide := func(action, scope string) func() {
		return func() { w.decide(k.c.Group, action, scope, traffic.Patterns(k.c.Group, action)) }
	}
	// "Always" is never the loud one: a click in passing should open no more than needed.
	k.session = w.cardButton(k, "Allow for this session", loud, decide("allow", "session"), "Let it through until this session is removed; programs that ask again succeed")
	k.project = w.cardButton(k, "Project", plain, decide("allow", "project"), "Allow in every session on this folder")
	k.always = w.cardButton(k, "Always", quiet, decide("allow", "always"), "Allow in all sessions from now on")
	k.block = w.cardButton(k, "Block", danger, decide("block", "session"), "Refuse it without asking again, in this session")
	k.more = w.cardButton(k, "", quiet, func() { w.cardMenu(k) }, "More: one host alone, everything below the domain, block for good").withIcon(moreIcon())
	k.undo = w.cardButton(k, "Undo", quiet, func() {
		if m := k.c.Mark; m != nil {
			other := "block"
			if m.Action == "block" {
				other = "allow"
			}
			w.decide(k.c.Group, other, m.Scope, m.Hosts)
		}
	}, "Decide the other way")
	k.ExtendBaseWidget(k)
	return k
}

func (k *card) set(c traffic.Card, now time.Time) {
	k.c, k.now = c, now
	k.Refresh()
}

func (k *card) name() string {
	if k.c.Mark != nil {
		return k.c.Domain + " " + markText(*k.c.Mark)
	}
	return k.c.Domain
}

// CreateRenderer is called by Fyne.
func (k *card) CreateRenderer() fyne.WidgetRenderer {
	r := &cardRenderer{k: k, back: fill(rgb(0x1c2129), 8), edge: canvas.NewRectangle(colWarn), domain: boldText("", colText, textBody),
		count: newText("", colDim, textSmall), sample: monoText("", colDim), info: newText("", colFaint, textSmall), mark: newText("", colGood, 12)}
	r.domain.TextStyle.Monospace = true
	r.edge.CornerRadius = 2
	return r
}

type cardRenderer struct {
	k                                 *card
	back, edge                        *canvas.Rectangle
	domain, count, sample, info, mark *canvas.Text
}

// MinSize is called by Fyne.
func (r *cardRenderer) MinSize() fyne.Size { return fyne.NewSize(300, cardHeight) }

// Layout is called by Fyne.
func (r *cardRenderer) Layout(size fyne.Size) {
	k := r.k
	const left, top = 8, 4
	w := size.Width - 2*left
	r.back.Move(fyne.NewPos(left, top))
	r.back.Resize(fyne.NewSize(w, size.Height-top-2))
	r.edge.Move(fyne.NewPos(left, top+8))
	r.edge.Resize(fyne.NewSize(3, size.Height-top-18))
	x, right := float32(left+12), left+w-8
	place(r.count, right-r.count.MinSize().Width, top+6, 18)
	fit(r.domain, k.c.Domain, right-r.count.MinSize().Width-12-x)
	place(r.domain, x, top+6, 18)
	chars := int((right - x) / monoWidth())
	r.sample.Text = traffic.Cut(traffic.Sample(k.c.Group), chars)
	place(r.sample, x, top+25, 16)
	fit(r.info, cardInfo(k.c), right-x)
	place(r.info, x, top+41, 15)
	y := float32(top + 61)
	for _, b := range k.buttons() {
		if !b.Visible() {
			continue
		}
		m := b.MinSize()
		if b == k.more || b == k.undo {
			b.Move(fyne.NewPos(right-m.Width, y))
		} else {
			b.Move(fyne.NewPos(x, y))
			x += m.Width + 5
		}
		b.Resize(m)
	}
	if k.c.Mark != nil || k.c.Private || k.c.Locked {
		limit := right - 8
		if k.undo.Visible() {
			limit -= k.undo.MinSize().Width
		}
		fit(r.mark, cardText(k.c), limit-left-12)
		place(r.mark, left+12, y, 24)
		if !k.undo.Visible() && k.block.Visible() {
			bx := right - k.block.MinSize().Width
			k.block.Move(fyne.NewPos(bx, y))
			fit(r.mark, cardText(k.c), bx-left-20)
		}
	}
}

func (k *card) buttons() []*button {
	return []*button{k.session, k.project, k.always, k.block, k.more, k.undo}
}

// Refresh is called by Fyne.
func (r *cardRenderer) Refresh() {
	k := r.k
	marked := k.c.Mark != nil
	failed := marked && k.c.Mark.Err != ""
	busy := marked && !failed && k.c.Mark.At.IsZero()
	open := (!marked || failed) && !k.c.Private && !k.c.Locked
	show(k.session, open)
	show(k.project, open && k.w.hasWorkspace())
	show(k.always, open)
	show(k.more, open)
	show(k.block, open || (!marked && k.c.Private))
	show(k.undo, marked && !failed && !busy && !k.c.Private)
	r.mark.Hidden = open && !failed || failed
	r.edge.FillColor, r.mark.Color, r.domain.Color = colWarn, colDim, colText
	if marked && !failed {
		r.domain.Color = colDim
		r.edge.FillColor, r.mark.Color = colGood, colGood
		if k.c.Mark.Action == "block" {
			r.edge.FillColor, r.mark.Color = colBad, colBad
		}
		if busy {
			r.mark.Color = colDim
		}
	} else if k.c.Private || k.c.Locked {
		r.edge.FillColor = colBad
	}
	r.count.Text = fmt.Sprintf("%d×  %s", k.c.Count, traffic.Ago(k.now, k.c.Last))
	r.info.Color = colFaint
	if failed {
		r.info.Color = colBad
	}
	r.Layout(k.Size())
	for _, o := range r.Objects() {
		o.Refresh()
	}
}

// Objects is called by Fyne.
func (r *cardRenderer) Objects() []fyne.CanvasObject {
	out := []fyne.CanvasObject{r.back, r.edge, r.domain, r.count, r.sample, r.info, r.mark}
	for _, b := range r.k.buttons() {
		out = append(out, b)
	}
	return out
}

// Destroy is called by Fyne.
func (r *cardRenderer) Destroy() {}

func show(o fyne.CanvasObject, yes bool) {
	if yes {
		o.Show()
	} else {
		o.Hide()
	}
}

// cardInfo is the third line: which hosts below the domain, and which program asked.
func cardInfo(c traffic.Card) string {
	if c.Mark != nil && c.Mark.Err != "" {
		return c.Mark.Err
	}
	var parts []string
	if n := len(c.Hosts); n > 1 {
		names := make([]string, 0, 3)
		for _, h := range c.Hosts[:min(n, 3)] {
			names = append(names, traffic.Pattern(h))
		}
		text := fmt.Sprintf("%d hosts: %s", n, strings.Join(names, ", "))
		if n > 3 {
			text += "…"
		}
		parts = append(parts, text)
	}
	if len(c.Hosts) > 0 {
		if p := c.Hosts[0].Process; p != "" {
			parts = append(parts, "asked for by "+p)
		}
		if len(parts) == 0 && c.Hosts[0].Reason != "" {
			parts = append(parts, c.Hosts[0].Reason)
		}
	}
	return strings.Join(parts, " · ")
}

func cardText(c traffic.Card) string {
	switch {
	case c.Mark != nil:
		return markText(*c.Mark)
	case c.Private:
		return "A private address: only user.toml can open it"
	case c.Locked:
		return "Blocked by your organisation"
	}
	return ""
}

func markText(m traffic.Mark) string {
	if m.Err != "" {
		return "not decided: " + m.Err
	}
	word := "Allowed"
	if m.Action == "block" {
		word = "Blocked"
	}
	if m.At.IsZero() {
		return word + "…"
	}
	scope := map[string]string{"session": "for this session", "project": "for this project", "always": "always"}[m.Scope]
	return "✓ " + word + " " + scope
}
