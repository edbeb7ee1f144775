// Package ioctl is /dev/kvm as Go sees it: typed calls, nothing of what a machine is made of. Names, numbers and layouts are those of
// include/uapi/linux/kvm.h and Documentation/virt/kvm/api.rst.
//
// File descriptors are plain numbers: the runtime's poller has no use for them, and an os.File's finalizer must not close what the kernel still runs.
package ioctl

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Directions of _IOC (include/uapi/asm-generic/ioctl.h).
const (
	none  = 0
	write = 1
	read  = 2

	kvmType = 0xae
)

func number(dir, nr, size uintptr) uintptr { return dir<<30 | size<<16 | kvmType<<8 | nr }

// Capabilities that CheckExtension knows, of every architecture.
const (
	CapIRQChip       = 0
	CapUserMemory    = 3
	CapNrVCPUs       = 9
	CapIRQFD         = 32
	CapIOEventFD     = 36
	CapMaxVCPUs      = 66
	CapImmediateExit = 136
)

// APIVersion is the only one there ever was since Linux 2.6.22.
const APIVersion = 12

// call is one ioctl that is done again when a signal came between. What arg points to, if it is a pointer, stays where it is meanwhile: a stack may
// move, so the directive below puts it on the heap.
//
//go:uintptrescapes
func call(fd int, name string, nr, arg uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), nr, arg)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, fmt.Errorf("KVM_%s: %w", name, errno)
	}
}

// with passes a structure that the kernel reads or fills during the call only. What it points to is on the heap with it.
func with[T any](fd int, name string, dir, nr uintptr, v *T) error {
	_, err := call(fd, name, number(dir, nr, unsafe.Sizeof(*v)), uintptr(unsafe.Pointer(v)))
	return err
}

// System is an open /dev/kvm.
type System struct{ fd int }

// NewSystem takes over an open /dev/kvm and looks at its version.
func NewSystem(f *os.File) (*System, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	s := &System{fd}
	v, err := call(fd, "GET_API_VERSION", number(none, 0x00, 0), 0)
	if err == nil && v != APIVersion {
		err = fmt.Errorf("KVM's API version is %d, not %d", v, APIVersion)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close closes the descriptor; machines that were made stay.
func (s *System) Close() { unix.Close(s.fd) }

// CheckExtension is 0 where the capability is missing; else 1 or its extent.
func (s *System) CheckExtension(capability int) int {
	n, err := call(s.fd, "CHECK_EXTENSION", number(none, 0x03, 0), uintptr(capability))
	if err != nil {
		return 0
	}
	return n
}

// CreateVM makes an empty machine. kind is the architecture's machine type, 0 for the usual one.
func (s *System) CreateVM(kind uint64) (*VM, error) {
	size, err := call(s.fd, "GET_VCPU_MMAP_SIZE", number(none, 0x04, 0), 0)
	if err != nil {
		return nil, err
	}
	fd, err := call(s.fd, "CREATE_VM", number(none, 0x01, 0), uintptr(kind))
	if err != nil {
		return nil, err
	}
	return &VM{fd: fd, runSize: size}, nil
}

// VM is a virtual machine.
type VM struct {
	fd      int
	runSize int
}

// Close lets go of the machine: it is gone when its VCPUs are closed too.
func (vm *VM) Close() { unix.Close(vm.fd) }

type userspaceMemoryRegion struct {
	slot, _ uint32
	gpa     uint64
	size    uint64
	address uint64
}

// SetMemory puts mem, whole pages that are mapped for as long as the machine lives, at a guest-physical address. An empty one takes the slot's away.
func (vm *VM) SetMemory(slot int, gpa uint64, mem []byte) error {
	r := userspaceMemoryRegion{slot: uint32(slot), gpa: gpa, size: uint64(len(mem))}
	if len(mem) > 0 {
		// The kernel keeps the address, of memory that was mapped outside of Go's heap and so does not move.
		r.address = uint64(uintptr(unsafe.Pointer(&mem[0])))
	}
	return with(vm.fd, "SET_USER_MEMORY_REGION", write, 0x46, &r)
}

type irqfd struct {
	fd, gsi uint32
	_       [24]byte // flags, the resampler, padding
}

// IRQFD lets each signal of an eventfd be an edge on a GSI.
func (vm *VM) IRQFD(fd, gsi int) error {
	return with(vm.fd, "IRQFD", write, 0x76, &irqfd{fd: uint32(fd), gsi: uint32(gsi)})
}

type ioeventfd struct {
	datamatch, addr uint64
	len             uint32
	fd              int32
	flags           uint32
	_               [36]byte
}

const ioeventfdDatamatch = 1

// IOEventFD signals an eventfd instead of exiting when the guest writes a 32-bit value at a guest-physical address.
func (vm *VM) IOEventFD(fd int, addr uint64, value uint32) error {
	return with(vm.fd, "IOEVENTFD", write, 0x79, &ioeventfd{
		datamatch: uint64(value), addr: addr, len: 4, fd: int32(fd), flags: ioeventfdDatamatch,
	})
}
