// Package backend knows what can run machines on this computer, and chooses.
package backend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"capsid/vmm"
	"capsid/vmm/kvm"
	"capsid/vmm/soft"
)

// Auto is the name that asks for the best that works here; so does the empty one.
const Auto = "auto"

// All are the backends of this program, the best first.
func All() []vmm.Backend { return []vmm.Backend{kvm.Backend{}, soft.Backend{}} }

// Names are what a person may ask for.
func Names(list []vmm.Backend) []string {
	names := []string{Auto}
	for _, b := range list {
		names = append(names, b.Name())
	}
	return names
}

// Found is a backend and what it found out about this computer.
type Found struct {
	vmm.Backend
	vmm.Probe
}

// Look probes all backends at once.
func Look(ctx context.Context, list []vmm.Backend) []Found {
	found := make([]Found, len(list))
	var group sync.WaitGroup
	for i, b := range list {
		group.Go(func() { found[i] = Found{b, b.Probe(ctx)} })
	}
	group.Wait()
	return found
}

// Choice is the backend that is to run a machine.
type Choice struct {
	Found
	// Why is one line: what it does, and why not another.
	Why string
}

// Error says why there is none.
type Error struct {
	Message string
	Fix     string // the next step
}

func (e *Error) Error() string { return e.Message }

// Choose takes the named backend, or the first that works here. It probes no more of them than it must. Its errors are *Error.
func Choose(ctx context.Context, list []vmm.Backend, name string) (Choice, error) {
	if name == Auto {
		name = ""
	}
	if names := Names(list); name != "" && !slices.Contains(names, name) {
		return Choice{}, &Error{fmt.Sprintf("there is no backend %q", name), "choose one of " + strings.Join(names, ", ")}
	}
	var passed []Found
	for _, b := range list {
		if name != "" && b.Name() != name {
			continue
		}
		f := Found{b, b.Probe(ctx)}
		if f.Usable {
			return Choice{f, why(f, passed, name != "")}, nil
		}
		passed = append(passed, f)
	}
	if err := ctx.Err(); err != nil {
		return Choice{}, err // the probes say nothing
	}
	return Choice{}, refuse(passed)
}

// ChooseOf is Choose where all have been looked at.
func ChooseOf(found []Found, name string) (Choice, error) {
	list := make([]vmm.Backend, len(found))
	for i, f := range found {
		list[i] = known{f.Backend, f.Probe}
	}
	return Choose(context.Background(), list, name)
}

// known is a backend that need not be probed again.
type known struct {
	vmm.Backend
	probe vmm.Probe
}

func (k known) Probe(context.Context) vmm.Probe { return k.probe }

func why(f Found, passed []Found, asked bool) string {
	text := f.Reason
	if asked {
		text += "; it was asked for"
	}
	for _, p := range passed {
		text += fmt.Sprintf("; not %s: %s", p.Name(), p.Reason)
	}
	return text
}

func refuse(passed []Found) error {
	e := &Error{Fix: "capsid doctor says what is missing"}
	var reasons []string
	for _, p := range passed {
		reasons = append(reasons, p.Name()+": "+p.Reason)
		if p.Fix != "" {
			e.Fix = p.Fix // that of the last, which asks least of a computer
		}
	}
	if len(passed) == 1 {
		e.Message = fmt.Sprintf("backend %s cannot run here: %s", passed[0].Name(), passed[0].Reason)
		return e
	}
	e.Message = "no machine can run here: " + strings.Join(reasons, "; ")
	return e
}
