package main

import (
	"fmt"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

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
