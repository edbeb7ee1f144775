package kvm

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/ioctl"
)

var neededCapabilities = map[string]int{
	"in-kernel interrupt controller": ioctl.CapIRQChip, "user memory": ioctl.CapUserMemory, "irqfd": ioctl.CapIRQFD, "ioeventfd": ioctl.CapIOEventFD,
	"immediate exit": ioctl.CapImmediateExit, "PSCI 0.2": ioctl.CapARMPSCI02,
}

// trialCode: l: subs x0, x0, #1; b.ne l; str w0, [x1].
var trialCode = []uint32{0xf1000400, 0x54ffffe1, 0xb9000020}

// The guest has one page of memory, and stores past it.
const (
	trialBase = 1 << 30
	trialIO   = 1 << 20
)

// trial returns how long the loop took.
func trial(sys *ioctl.System) (time.Duration, error) {
	vm, err := sys.CreateVM(trialKind(sys))
	if err != nil {
		return 0, err
	}
	defer vm.Close()
	if !vm.HasGIC() {
		return 0, errors.New("the host's interrupt controller is no GICv3, which guests get here")
	}
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(mem)
	for i, c := range trialCode {
		binary.LittleEndian.PutUint32(mem[4*i:], c)
	}
	if err := vm.SetMemory(0, trialBase, mem); err != nil {
		return 0, err
	}
	c, err := vm.CreateVCPU(0)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Init(vm, false); err != nil {
		return 0, err
	}
	if err := errors.Join(c.SetReg(ioctl.RegPC, trialBase), c.SetReg(ioctl.RegX(0), trialLoops), c.SetReg(ioctl.RegX(1), trialIO)); err != nil {
		return 0, err
	}
	return trialRun(c, ioctl.ExitMMIO)
}

// trialKind is a machine type of the smallest addresses, where they can be chosen.
func trialKind(sys *ioctl.System) uint64 {
	if sys.CheckExtension(ioctl.CapARMVMIPASize) == 0 {
		return 0
	}
	return 32
}
