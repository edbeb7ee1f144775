package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"capsid/app/session"
	"capsid/guest/image"
)

// buildMeter shows the steps of an image's build: a bar each on a terminal, else a line when one begins and when it is over.
type buildMeter struct {
	term  *term
	bars  *mpb.Progress // nil where there is no terminal
	steps map[string]*buildStep
}

type buildStep struct {
	bar    *mpb.Bar
	detail string
	begun  time.Time
	over   bool
}

func (t *term) buildProgress() *buildMeter {
	m := &buildMeter{term: t, steps: map[string]*buildStep{}}
	if isTerminal(t.errFile) {
		m.bars = mpb.New(mpb.WithOutput(t.errFile), mpb.WithWidth(40))
	}
	return m
}

// step is called one at a time.
func (m *buildMeter) step(s image.Step) {
	st := m.steps[s.Name]
	if st == nil {
		st = &buildStep{begun: time.Now()}
		m.steps[s.Name] = st
		if m.bars == nil {
			m.term.note("  %s", s.Name)
		} else {
			st.bar = m.bars.AddBar(0, mpb.BarFillerTrim(), mpb.PrependDecorators(decor.Name(s.Name, decor.WCSyncSpaceR)),
				mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return st.detail })))
		}
	}
	if st.over {
		return
	}
	st.over = s.Total > 0 && s.Done >= s.Total
	if st.bar != nil {
		text := ""
		switch {
		case st.over:
			text = short(time.Since(st.begun))
		case s.Bytes && s.Total > 0:
			text = bytesText(s.Done) + " of " + bytesText(s.Total)
		case s.Total > 0:
			text = fmt.Sprintf("%d of %d", s.Done, s.Total)
		}
		if s.Detail != "" && !st.over {
			text += "  " + plain(s.Detail)
		}
		st.detail = text
		st.bar.SetTotal(s.Total, false)
		st.bar.SetCurrent(s.Done)
		if st.over {
			st.bar.SetTotal(s.Total, true)
		}
		return
	}
	if st.over {
		m.term.note("  %s: %s", s.Name, short(time.Since(st.begun)))
	}
}

// end leaves what is on the screen.
func (m *buildMeter) end() {
	if m.bars == nil {
		return
	}
	for _, st := range m.steps {
		if !st.over {
			st.bar.Abort(false)
		}
	}
	m.bars.Wait()
}

// workMeter shows something that takes long: on a terminal one line that moves, else a line for each of its stages.
type workMeter struct {
	term  *term
	live  bool
	shown string // what stands on the line that moves, or the last stage
}

func (t *term) workProgress() *workMeter { return &workMeter{term: t, live: isTerminal(t.errFile)} }

// show is called one at a time; nil: nothing is under way.
func (m *workMeter) show(w *session.Work) {
	if w == nil {
		return
	}
	line := "  " + plain(w.Name) + ": " + plain(w.Stage)
	if m.live && w.Total > 0 {
		line += ", " + bytesText(w.Done) + " of " + bytesText(w.Total)
	}
	if line == m.shown {
		return
	}
	m.shown = line
	if m.live {
		fmt.Fprint(m.term.err, "\r\x1b[K"+cut(line, liveWidth))
		return
	}
	m.term.note("%s", line)
}

// end takes the line that moves away: the command's answer says what has come of it.
func (m *workMeter) end() {
	if m.live && m.shown != "" {
		fmt.Fprint(m.term.err, "\r\x1b[K")
	}
}

// liveWidth is what a line that moves may have on any terminal: one that breaks cannot be taken back.
const liveWidth = 79

// working shows what takes long in a session until stop is called.
func (c *cli) working(ctx context.Context, client *session.Client) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		events, err := client.Events(ctx)
		if err != nil {
			return // what is under way says more of why
		}
		meter := c.workProgress()
		for e := range events {
			if e.Kind == session.StatusEvent && e.Status != nil {
				meter.show(e.Status.Work)
			}
		}
		meter.end()
	})
	return func() {
		cancel()
		shown.Wait()
	}
}

// several shows how several sessions come up together: which are up and, on a terminal, what is done for the others.
func (t *term) several(count int) func(session.Status) {
	up := map[string]bool{}
	live := isTerminal(t.errFile)
	return func(st session.Status) {
		if up[st.ID] {
			return
		}
		if live {
			fmt.Fprint(t.err, "\r\x1b[K")
		}
		if st.State == session.Running || st.State == session.Paused {
			up[st.ID] = true
			t.note("  %s is up (%s)", st.Name, short(time.Since(st.Started)))
		}
		if live && len(up) < count && len(st.Steps) > 0 {
			fmt.Fprint(t.err, cut(fmt.Sprintf("  %d of %d are up; %s: %s", len(up), count, st.Name, plain(st.Steps[len(st.Steps)-1].Name)), liveWidth))
		}
	}
}
