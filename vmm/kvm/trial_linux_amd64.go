package kvm

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/ioctl"
)

var neededCapabilities = map[string]int{
	"in-kernel interrupt controller": ioctl.CapIRQChip, "user memory": ioctl.CapUserMemory, "irqfd": ioctl.CapIRQFD, "ioeventfd": ioctl.CapIOEventFD,
	"immediate exit": ioctl.CapImmediateExit, "TSS address": ioctl.CapSetTSSAddr,
}

// trialCode, in real mode: mov ecx, trialLoops; l: dec ecx; jnz l; out 0x10, al; hlt.
var trialCode = []byte{0x66, 0xb9, trialLoops & 0xff, trialLoops >> 8 & 0xff, trialLoops >> 16 & 0xff, 0, 0x66, 0x49, 0x75, 0xfc, 0xe6, 0x10, 0xf4}

// trial returns how long the loop took.
func trial(sys *ioctl.System) (time.Duration, error) {
	vm, err := sys.CreateVM(0)
	if err != nil {
		return 0, err
	}
	defer vm.Close()
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(mem)
	copy(mem, trialCode)
	const at = 0x1000
	if err := vm.SetMemory(0, at, mem); err != nil {
		return 0, err
	}
	if err := vm.SetTSSAddress(0xfffb_d000); err != nil {
		return 0, err
	}
	c, err := vm.CreateVCPU(0)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := c.Sregs()
	if err != nil {
		return 0, err
	}
	s.CS.Base, s.CS.Selector = 0, 0
	if err := c.SetSregs(&s); err != nil {
		return 0, err
	}
	if err := c.SetRegs(&ioctl.Regs{RIP: at, RFLAGS: 2}); err != nil {
		return 0, err
	}
	return trialRun(c, ioctl.ExitIO)
}
