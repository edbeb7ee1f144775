package soft

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"time"

	"capsid/vmm"
)

// Backend starts machines in QEMU. Its zero value is ready for use.
type Backend struct {
	// QEMU is the program; empty means the host's qemu-system-… found in PATH.
	QEMU string
}

// Name is "soft".
func (Backend) Name() string { return "soft" }

// Capabilities says what this backend can do.
func (Backend) Capabilities() vmm.Capabilities { return vmm.Capabilities{Snapshot: true} }

// probeTime bounds the question for the version. A program that takes longer would take minutes to start a machine.
const probeTime = 10 * time.Second

var versionLine = regexp.MustCompile(`^QEMU emulator version (\d+\.\d+[.\d]*)`)

// Probe asks QEMU for its version.
func (b Backend) Probe(ctx context.Context) vmm.Probe {
	_, _, p := b.find(ctx)
	return p
}

func (b Backend) find(ctx context.Context) (arch, string, vmm.Probe) {
	a, ok := arches[runtime.GOARCH]
	if !ok || runtime.GOOS != "linux" {
		return a, "", vmm.Probe{Reason: "software emulation is not set up for " + runtime.GOOS + "/" + runtime.GOARCH}
	}
	name := a.qemu
	if b.QEMU != "" {
		name = b.QEMU
	}
	fix := "apt install " + a.pkg
	path, err := exec.LookPath(name)
	if err != nil {
		return a, "", vmm.Probe{Reason: name + " is not installed", Fix: fix}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second // a child of it may hold the pipe
	out, err := cmd.Output()
	if err != nil {
		return a, "", vmm.Probe{Reason: fmt.Sprintf("%s --version: %v", path, err), Fix: fix}
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return a, "", vmm.Probe{Reason: path + " does not say which version of QEMU it is", Fix: fix}
	}
	version := "QEMU " + string(m[1]) + ", TCG"
	return a, path, vmm.Probe{Usable: true, Reason: "QEMU emulates the processor in software", Detail: version}
}
