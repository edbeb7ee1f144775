package kvm

import (
	"runtime"

	"capsid/vmm"
)

// Backend starts machines over /dev/kvm. Its zero value is ready for use.
type Backend struct {
	// Program and Args start a process that calls Main. Empty means this very program with the argument "vmm-serve".
	Program string
	Args    []string
}

// Name is "kvm".
func (Backend) Name() string { return "kvm" }

// Capabilities says what this backend can do.
func (Backend) Capabilities() vmm.Capabilities {
	return vmm.Capabilities{Accelerated: true, Snapshot: runtime.GOARCH == "amd64"}
}

// serveCommand is the hidden command by which the capsid program becomes a machine.
const serveCommand = "vmm-serve"

func (b Backend) command() (string, []string) {
	if b.Program != "" {
		return b.Program, b.Args
	}
	// By this path the program is found by nobody too, whom folders on its own path may keep out.
	return "/proc/self/exe", []string{serveCommand}
}
