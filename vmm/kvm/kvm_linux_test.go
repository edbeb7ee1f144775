package kvm

import (
	"os"
	"testing"

	"capsid/vmm/vmmtest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveCommand {
		os.Exit(Main())
	}
	vmmtest.Main(m)
}

// inLab says whether this runs where stock kernels run on a /dev/kvm that must be there.
func inLab() bool { return os.Getenv("CAPSID_LAB") != "" }

func TestBackend(t *testing.T) {
	if p := (Backend{}).Probe(t.Context()); !inLab() && !p.Usable {
		t.Skipf("%s; make lab has one", p.Reason)
	}
	vmmtest.Run(t, Backend{}, vmmtest.Options{OneAtATime: inLab()})
}
