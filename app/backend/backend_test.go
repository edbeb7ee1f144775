package backend

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"capsid/vmm"
)

// standIn is a backend that cannot start anything.
type standIn struct {
	vmm.Backend
	name   string
	probe  vmm.Probe
	probes *int
	meet   chan struct{} // a probe waits for another one here, if not nil
}

func (s standIn) Name() string { return s.name }

func (s standIn) Probe(ctx context.Context) vmm.Probe {
	if s.probes != nil {
		*s.probes++
	}
	if s.meet != nil {
		select {
		case s.meet <- struct{}{}:
		case <-s.meet:
		}
	}
	return s.probe
}

var (
	no    = standIn{name: "kvm", probe: vmm.Probe{Reason: "/dev/kvm is absent", Fix: "modprobe kvm"}}
	fast  = standIn{name: "kvm", probe: vmm.Probe{Usable: true, Reason: "the processor runs it"}}
	yes   = standIn{name: "soft", probe: vmm.Probe{Usable: true, Reason: "QEMU emulates the processor"}}
	never = standIn{name: "soft", probe: vmm.Probe{Reason: "QEMU is not installed"}}
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		list       []vmm.Backend
		name, want string
		why        string
		err, fix   string
	}{
		{[]vmm.Backend{fast, yes}, "", "kvm", "the processor runs it", "", ""},
		{[]vmm.Backend{no, yes}, "", "soft", "QEMU emulates the processor; not kvm: /dev/kvm is absent", "", ""},
		{[]vmm.Backend{no, yes}, Auto, "soft", "QEMU emulates the processor; not kvm: /dev/kvm is absent", "", ""},
		{[]vmm.Backend{fast, yes}, "soft", "soft", "QEMU emulates the processor; it was asked for", "", ""},
		{[]vmm.Backend{no, yes}, "kvm", "", "", "backend kvm cannot run here: /dev/kvm is absent", "modprobe kvm"},
		{[]vmm.Backend{fast, never}, "soft", "", "", "backend soft cannot run here: QEMU is not installed", "capsid doctor"},
		{[]vmm.Backend{no, never}, "", "", "", "no machine can run here: kvm: /dev/kvm is absent; soft: QEMU is not installed", "modprobe kvm"},
		{[]vmm.Backend{fast, yes}, "xen", "", "", `there is no backend "xen"`, "choose one of auto, kvm, soft"},
	} {
		chosen, err := Choose(t.Context(), c.list, c.name)
		again, errAgain := ChooseOf(Look(t.Context(), c.list), c.name)
		if again.Why != chosen.Why || (err == nil) != (errAgain == nil) {
			t.Errorf("%q: %+v, %v; looked at before: %+v, %v", c.name, chosen, err, again, errAgain)
		}
		if c.err == "" {
			if err != nil || chosen.Name() != c.want || chosen.Why != c.why || !chosen.Usable {
				t.Errorf("%q: %+v, %v", c.name, chosen, err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Message != c.err || !strings.Contains(e.Fix, c.fix) {
			t.Errorf("%q: %v (%+v)", c.name, err, e)
		}
	}
}

// What is not needed is not probed.
func TestChooseProbesFew(t *testing.T) {
	var first, second int
	a, b := fast, yes
	a.probes, b.probes = &first, &second
	for _, name := range []string{"", "kvm", "xen"} {
		Choose(t.Context(), []vmm.Backend{a, b}, name)
	}
	if first != 2 || second != 0 {
		t.Errorf("probed %d and %d times", first, second)
	}
}

func TestChooseIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Choose(ctx, []vmm.Backend{no, never}, ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Look probes all side by side, and keeps their order.
func TestLook(t *testing.T) {
	a, b := no, yes
	a.meet = make(chan struct{})
	b.meet = a.meet
	found := Look(t.Context(), []vmm.Backend{a, b})
	if len(found) != 2 || found[0].Name() != "kvm" || found[0].Fix != "modprobe kvm" || found[1].Name() != "soft" || !found[1].Usable {
		t.Errorf("%+v", found)
	}
}

func TestAll(t *testing.T) {
	if got := Names(All()); !slices.Equal(got, []string{"auto", "kvm", "soft"}) {
		t.Error(got)
	}
}
