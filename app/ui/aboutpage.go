package ui

import (
	"fmt"
	"image/color"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
	"capsid/app/ui/traffic"
)

// aboutPage tells what the selected session is, how its start went, and every defence that is in force around it.
type aboutPage struct {
	w     *Window
	root  *container.Scroll
	body  *fyne.Container
	s     *live
	shown string
}

func newAboutPage(w *Window) *aboutPage {
	p := &aboutPage{w: w, body: container.NewStack()}
	p.root = container.NewVScroll(container.New(bar{12, 10, 12, 12}, p.body))
	w.probe.add("text", p.body, func() string {
		if p.s == nil {
			return ""
		}
		return fmt.Sprintf("about %s, %d defences", p.s.st.Name, len(p.s.st.Defences))
	})
	return p
}

func (p *aboutPage) show(s *live) {
	p.s, p.shown = s, ""
	p.refresh()
}

func (p *aboutPage) refresh() {
	if p.s == nil {
		if p.shown != "none" {
			p.shown = "none"
			p.body.Objects = []fyne.CanvasObject{notice("Nothing selected", "What a session is and every defence in force around it shows here.")}
			p.body.Refresh()
		}
		return
	}
	st := p.s.st
	// Made anew only when it says something else: a person may be selecting text in it.
	key := fmt.Sprintf("%+v", struct {
		session.Session
		S  session.State
		St []session.Step
		D  []string
		B  string
		E  string
	}{st.Session, st.State, st.Steps, st.Defences, st.Backing, st.Error})
	if key == p.shown {
		return
	}
	p.shown = key
	box := container.New(layout.NewCustomPaddedVBoxLayout(3))
	head := container.NewBorder(nil, nil, container.New(bar{0, 3, 4, 0}, dot(stateColor(st.State), 9)), nil, boldText(st.Name, colText, 16))
	box.Add(head)
	form := container.New(layout.NewFormLayout())
	line := func(name, value string, mono bool) {
		if value == "" {
			return
		}
		v := widget.NewLabel(value)
		v.Wrapping = fyne.TextWrapWord
		if mono {
			v.Wrapping = fyne.TextWrapBreak // a path has no words
		}
		v.Selectable = true
		v.TextStyle.Monospace = mono
		v.SizeName = theme.SizeNameCaptionText
		form.Add(container.NewVBox(container.New(bar{0, 2, 4, 0}, newText(name, colFaint, textSmall))))
		form.Add(v)
	}
	line("state", string(st.State), false)
	line("why", strings.TrimSpace(st.Error+"\n"+st.Hint), false)
	line("folder", workspaceText(st), true)
	line("agent", agentText(st), false)
	line("machine", machineText(st), false)
	line("backend", st.Backing, false)
	line("image", short(st.Image), true)
	line("id", st.ID, true)
	box.Add(container.NewThemeOverride(form, &denseTheme{p.w.theme}))
	if len(st.Defences) > 0 {
		box.Add(section(fmt.Sprintf("DEFENCES IN FORCE (%d)", len(st.Defences))))
		list := container.New(layout.NewCustomPaddedVBoxLayout(-3))
		for _, d := range st.Defences {
			list.Add(p.bullet("✓", colGood, d))
		}
		box.Add(list)
	}
	if len(st.Steps) > 0 {
		box.Add(section("HOW IT STARTED"))
		for _, s := range st.Steps {
			box.Add(stepLine(s, false))
		}
	}
	p.body.Objects = []fyne.CanvasObject{box}
	p.body.Refresh()
	p.root.Refresh()
}

func section(title string) fyne.CanvasObject {
	return container.New(bar{0, 12, 0, 2}, boldText(title, colFaint, 10))
}

func (p *aboutPage) bullet(mark string, c color.Color, text string) fyne.CanvasObject {
	l := widget.NewLabel(text)
	l.Wrapping = fyne.TextWrapWord
	l.SizeName = theme.SizeNameCaptionText
	return container.NewThemeOverride(container.NewBorder(nil, nil, container.New(bar{0, 3, 4, 0}, container.NewVBox(newText(mark, c, textSmall))), nil, l), &denseTheme{p.w.theme})
}

// dot is a filled circle with a place of its own.
func dot(c color.Color, size float32) fyne.CanvasObject {
	return container.New(layout.NewCenterLayout(), container.New(fixed{size, size}, canvas.NewCircle(c)))
}

func agentText(st session.Status) string {
	text := st.Agent
	if st.Agent != "shell" {
		if st.Autonomous {
			text += ", acts without asking: the machine is its sandbox"
		} else {
			text += ", asks before it acts"
		}
	}
	return text
}

func machineText(st session.Status) string {
	if st.CPUs == 0 {
		return ""
	}
	cpus := "CPUs"
	if st.CPUs == 1 {
		cpus = "CPU"
	}
	return fmt.Sprintf("%d %s, %.3g GiB of memory", st.CPUs, cpus, float64(st.Memory)/(1<<30))
}

func short(digest string) string {
	if len(digest) > 16 {
		return digest[:16] + "…"
	}
	return digest
}

// stepLine is one step of a start: done with its time, or under way.
func stepLine(s session.Step, large bool) fyne.CanvasObject {
	size := float32(textSmall)
	if large {
		size = textBody
	}
	mark, c, took := "•", colWarn, "…"
	if s.Done {
		mark, c, took = "✓", colGood, traffic.Took(s.Duration)
	}
	name := newText(s.Name, colText, size)
	if !s.Done {
		name.Color = colWarn
	}
	items := []fyne.CanvasObject{container.New(fixed{width: size + 3}, newText(mark, c, size)), name}
	if s.Detail != "" {
		items = append(items, newText(traffic.Cut(s.Detail, 60), colFaint, size-1))
	}
	return container.NewBorder(nil, nil, container.New(row{gap: 6}, items...), newText(took, colDim, size))
}
