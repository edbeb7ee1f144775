package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"capsid/vmm"
	"capsid/vmm/kvm/ioctl"
)

const (
	devicePath = "/dev/kvm"
	modules    = "/sys/module"
)

// Probe opens the device, looks for what this backend needs of it and runs a few instructions.
func (Backend) Probe(context.Context) vmm.Probe {
	f, err := os.OpenFile(devicePath, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return explainOpen(err, kvmLoaded())
	}
	defer f.Close()
	if pvm, reason := softwareKVM(modules); pvm {
		return vmm.Probe{Reason: reason}
	}
	if err := tryGuest(f); err != nil {
		return vmm.Probe{Reason: "/dev/kvm cannot run a stock kernel: " + err.Error()}
	}
	return vmm.Probe{Usable: true, Reason: "the processor runs the guest itself", Detail: detail()}
}

// kvmLoaded says whether the kernel has KVM's own module, whatever is seen of its device.
func kvmLoaded() bool {
	_, err := os.Stat(filepath.Join(modules, "kvm"))
	return err == nil
}

// explainOpen says why /dev/kvm cannot be opened and what helps.
func explainOpen(err error, loaded bool) vmm.Probe {
	switch {
	case errors.Is(err, fs.ErrNotExist) && loaded:
		return vmm.Probe{Reason: "/dev/kvm is absent, though this kernel has KVM: it was not given to this container or sandbox",
			Fix: "pass the device in, as by docker run --device /dev/kvm"}
	case errors.Is(err, fs.ErrNotExist):
		return vmm.Probe{Reason: "/dev/kvm is absent: no KVM module is loaded, or the processor's virtualization is off",
			Fix: "sudo modprobe kvm_intel || sudo modprobe kvm_amd"}
	case errors.Is(err, fs.ErrPermission):
		name := "$USER"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		return vmm.Probe{Reason: "no permission to open /dev/kvm", Fix: fmt.Sprintf("sudo usermod -aG kvm %s && newgrp kvm", name)}
	}
	return vmm.Probe{Reason: "/dev/kvm: " + err.Error(), Fix: "sudo modprobe kvm_intel || sudo modprobe kvm_amd"}
}

// softwareKVM finds a module behind /dev/kvm that interprets a guest's kernel instead of running it: a stock one takes hours to boot there.
func softwareKVM(modules string) (bool, string) {
	has := func(name string) bool { _, err := os.Stat(filepath.Join(modules, name)); return err == nil }
	if has("kvm_pvm") && !has("kvm_intel") && !has("kvm_amd") {
		return true, "/dev/kvm is of kvm_pvm, which cannot run a stock kernel: it interprets the guest's instructions"
	}
	return false, ""
}

// detail names the module and the kernel.
func detail() string {
	name := "KVM"
	for _, m := range []string{"kvm_intel", "kvm_amd"} {
		if _, err := os.Stat(filepath.Join(modules, m)); err == nil {
			name = strings.Replace(m, "_", "-", 1)
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return name
	}
	return name + ", Linux " + unix.ByteSliceToString(u.Release[:])
}

// slowest is how long the trial guest may take for a loop of trialLoops: processors need well below a millisecond, an interpreter of 1.5 million instructions a
// second 130. The best of some runs counts: a busy host slows all of them, not each.
const (
	trialLoops = 50_000
	trialRuns  = 5
	slowest    = 20 * time.Millisecond
)

// tryGuest runs a loop in a guest of one page.
func tryGuest(device *os.File) error {
	sys, err := ioctl.NewSystem(device)
	if err != nil {
		return err
	}
	defer sys.Close()
	for name, capability := range neededCapabilities {
		if sys.CheckExtension(capability) == 0 {
			return fmt.Errorf("this KVM has no %s", name)
		}
	}
	best := time.Duration(1<<63 - 1)
	for range trialRuns {
		took, err := trial(sys)
		if err != nil {
			return err
		}
		if best = min(best, took); best < slowest {
			return nil
		}
	}
	return fmt.Errorf("it interprets the guest's instructions (%v for a loop of %d)", best.Round(time.Millisecond), trialLoops)
}

// trialRun runs a guest until its first exit, and returns how long it took.
func trialRun(c *ioctl.VCPU, want uint32) (time.Duration, error) {
	started := time.Now()
	for {
		switch err := c.Run(); err {
		case nil:
			if c.ExitReason() != want {
				return 0, fmt.Errorf("a trial guest ended with exit %d", c.ExitReason())
			}
			return time.Since(started), nil
		case unix.EINTR, unix.EAGAIN:
		default:
			return 0, fmt.Errorf("a trial guest: %w", err)
		}
	}
}
