//go:build linux

package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// target is what differs between the processors that the lab's machine may have.
type target struct {
	arch    string // as Go names it
	elf     elf.Machine
	qemu    string // the program
	pkg     string // Debian's package of it
	machine []string
	kernel  string // parameters
	// modules are loaded for KVM; the kernel may have it built in.
	modules []string
	noKVM   string // why there may be no /dev/kvm
}

// One processor in one thread: the emulated VMRUN was seen to be right so. But on a busy host an interrupt of the emulated APIC's timer gets lost now and then while an inner
// machine runs, and a kernel that programs each by itself waits for ever for that one: so the timer is periodic (nohz=off highres=off), where a lost one is made up for by the next.
var targets = []target{
	{
		arch: "amd64", elf: elf.EM_X86_64, qemu: "qemu-system-x86_64", pkg: "qemu-system-x86",
		machine: []string{"-machine", "q35,vmport=off,smbus=off,sata=off,usb=off,hpet=off,i8042=off,graphics=off", "-cpu", "max,+svm,+npt,-la57"},
		kernel:  "console=ttyS0 edd=off 8250.nr_uarts=1 nohz=off highres=off tsc=reliable no_timer_check lpj=8000000",
		modules: []string{"kvm", "kvm_amd"},
		noKVM:   "its kernel did not take kvm_amd, or QEMU has no SVM (before 6.2)",
	},
	{
		// Pointer authentication by QEMU's own algorithm: the architected one halves the speed.
		arch: "arm64", elf: elf.EM_AARCH64, qemu: "qemu-system-aarch64", pkg: "qemu-system-arm",
		machine: []string{"-machine", "virt,virtualization=on,gic-version=3", "-cpu", "max,pauth-impdef=on"},
		kernel:  "console=ttyAMA0",
		noKVM:   "its kernel has no KVM built in, or QEMU no EL2",
	},
}

// chooseTarget is the target that -arch names, or else that of the program's file; what is no ELF file is the host's own.
func chooseTarget(o options) (target, error) {
	arch := o.arch
	if arch == "" {
		arch = runtime.GOARCH
		path, err := exec.LookPath(o.command[0])
		if f, ferr := elf.Open(path); err == nil && ferr == nil {
			defer f.Close()
			if i := slices.IndexFunc(targets, func(t target) bool { return t.elf == f.Machine }); i >= 0 {
				arch = targets[i].arch
			}
		}
	}
	i := slices.IndexFunc(targets, func(t target) bool { return t.arch == arch })
	if i < 0 {
		return target{}, fmt.Errorf("no lab for %s", arch)
	}
	if targets[i].foreign() && o.shell {
		return target{}, fmt.Errorf("no shell in the lab for %s: it has no image", arch)
	}
	return targets[i], nil
}

// foreign says whether the lab's processor is of another kind than the host's. Then there is no image, so its root holds only what is taken along.
func (t target) foreign() bool { return t.arch != runtime.GOARCH }

// init is this program for the lab's processor.
func (t target) init() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if t.foreign() {
		self = filepath.Join(filepath.Dir(self), "capsid-lab-"+t.arch)
		if _, err := os.Stat(self); err != nil {
			return "", fmt.Errorf("%w: make lab-%s builds it", err, t.arch)
		}
	}
	return self, checkStatic(self)
}
