//go:build linux

package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"capsid/guest/agent/reap"
	"capsid/guest/control"
)

const maxTerminals = 256

// terminals are the named terminals of the machine.
type terminals struct {
	procs *reap.Reaper

	mu     sync.Mutex
	byName map[string]*terminal
}

func newTerminals(procs *reap.Reaper) *terminals {
	return &terminals{procs: procs, byName: make(map[string]*terminal)}
}

// open finds the running terminal of that name, or starts spec.Command in a new one of that name. With no command it finds
// one whose program has ended as well. program makes what to start of the spec.
func (ts *terminals) open(spec control.TerminalSpec, program func() (*program, error)) (*terminal, error) {
	if spec.Name == "" || len(spec.Name) > 128 {
		return nil, errors.New("a terminal's name has 1 to 128 bytes")
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byName[spec.Name]
	if t != nil && (len(spec.Command) == 0 || t.running()) {
		return t, nil
	}
	if len(spec.Command) == 0 {
		return nil, fmt.Errorf("no terminal is named %q; name a command to start one", spec.Name)
	}
	if t == nil && len(ts.byName) >= maxTerminals {
		return nil, fmt.Errorf("there are %d terminals already", maxTerminals)
	}
	p, err := program()
	if err != nil {
		return nil, err
	}
	t, err = startTerminal(ts.procs, spec, p)
	if err != nil {
		return nil, err
	}
	ts.byName[spec.Name] = t
	return t, nil
}

// list has the oldest first.
func (ts *terminals) list() []control.TerminalInfo {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	out := make([]control.TerminalInfo, 0, len(ts.byName))
	for _, t := range ts.byName {
		out = append(out, t.info())
	}
	slices.SortFunc(out, func(a, b control.TerminalInfo) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return slices.Compare([]string{a.Name}, []string{b.Name})
	})
	return out
}
