package kvm

import (
	"os"
	"runtime"
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

// needStockKernels skips where stock kernels cannot run.
func needStockKernels(t *testing.T) {
	t.Helper()
	if p := (Backend{}).Probe(t.Context()); !inLab() && !p.Usable {
		t.Skipf("%s; make lab has one", p.Reason)
	}
}

func TestBackend(t *testing.T) {
	needStockKernels(t)
	vmmtest.Run(t, Backend{}, vmmtest.Options{OneAtATime: inLab()})
}

func TestLarge(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("an arm64 kernel is not packed, and its memory has no gap")
	}
	needStockKernels(t)
	vmmtest.Large(t, Backend{}, vmmtest.Options{OneAtATime: inLab()})
}

func TestSnapshots(t *testing.T) {
	if !(Backend{}).Capabilities().Snapshot {
		t.Skip("snapshots are for another processor yet")
	}
	needStockKernels(t)
	vmmtest.Snapshots(t, Backend{}, vmmtest.Options{OneAtATime: inLab()})
}
