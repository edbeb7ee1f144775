//go:build linux && amd64

// Package selftest_test shows that the lab's /dev/kvm runs a guest.
package selftest_test

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The numbers are of linux/kvm.h.
const (
	getAPIVersion       = 0xae00
	createVM            = 0xae01
	getVCPUMmapSize     = 0xae04
	createVCPU          = 0xae41
	setUserMemoryRegion = 0x4020ae46
	runVCPU             = 0xae80
	setRegs             = 0x4090ae82
	getSregs            = 0x8138ae83
	setSregs            = 0x4138ae84

	exitIO  = 2
	exitHLT = 5
)

type memoryRegion struct {
	slot, flags     uint32
	guest, size, at uint64
}

type regs struct {
	general    [16]uint64
	rip, flags uint64
}

// sregs begins with the segment cs, and is taken as it comes but for that.
type sregs struct {
	csBase     uint64
	csLimit    uint32
	csSelector uint16
	rest       [312 - 14]byte
}

func ioctl(t *testing.T, fd int, request, arg uintptr) int {
	t.Helper()
	for {
		n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			t.Fatalf("ioctl %#x: %v", request, e)
		}
		return int(n)
	}
}

func TestGuestRuns(t *testing.T) {
	if os.Getenv("CAPSID_LAB") == "" {
		t.Skip("not in the lab")
	}
	kvm, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kvm)
	if v := ioctl(t, kvm, getAPIVersion, 0); v != 12 {
		t.Fatalf("API version %d", v)
	}
	vm := ioctl(t, kvm, createVM, 0)
	defer unix.Close(vm)
	ram, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(ram)
	copy(ram, []byte{0xe6, 0x42, 0xf4}) // out 0x42, al; hlt
	region := memoryRegion{guest: 0x1000, size: 4096, at: uint64(uintptr(unsafe.Pointer(&ram[0])))}
	// unsafe here and below: the kernel reads or writes a struct of linux/kvm.h, which outlives the call.
	ioctl(t, vm, setUserMemoryRegion, uintptr(unsafe.Pointer(&region)))
	vcpu := ioctl(t, vm, createVCPU, 0)
	defer unix.Close(vcpu)
	run, err := unix.Mmap(vcpu, 0, ioctl(t, kvm, getVCPUMmapSize, 0), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(run)
	var s sregs
	ioctl(t, vcpu, getSregs, uintptr(unsafe.Pointer(&s)))
	s.csBase, s.csSelector = 0, 0
	ioctl(t, vcpu, setSregs, uintptr(unsafe.Pointer(&s)))
	r := regs{rip: 0x1000, flags: 2}
	r.general[0] = 'K' // rax
	ioctl(t, vcpu, setRegs, uintptr(unsafe.Pointer(&r)))

	// struct kvm_run: exit_reason at 8; for exitIO at 32 direction, size, port, count, offset of the data.
	ioctl(t, vcpu, runVCPU, 0)
	if reason := run[8]; reason != exitIO {
		t.Fatalf("exit %d, want that of the out", reason)
	}
	if direction, size, port := run[32], run[33], run[34]; direction != 1 || size != 1 || port != 0x42 {
		t.Errorf("direction %d, size %d, port %#x", direction, size, port)
	}
	offset := *(*uint64)(unsafe.Pointer(&run[40])) // aligned to 8 in the page
	if run[offset] != 'K' {
		t.Errorf("the guest wrote %#x", run[offset])
	}
	ioctl(t, vcpu, runVCPU, 0)
	if reason := run[8]; reason != exitHLT {
		t.Fatalf("exit %d, want that of the hlt", reason)
	}
}
