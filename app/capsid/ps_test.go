package main

import (
	"slices"
	"testing"

	"capsid/app/session"
)

func TestBackings(t *testing.T) {
	const kvm, soft = "kvm: kvm-amd (the processor runs the guest itself)", "soft: QEMU 9.1.0, TCG (emulated; not kvm: /dev/kvm is absent)"
	got := backings([]session.Status{
		{State: session.Running, Backing: soft}, {State: session.Paused, Backing: soft}, {State: session.Running, Backing: kvm},
		{State: session.Starting}, {State: session.Stopped, Backing: "old"}, {State: session.Failed, Backing: "old"},
	})
	if !slices.Equal(got, []string{soft, kvm}) {
		t.Errorf("%q", got)
	}
}
