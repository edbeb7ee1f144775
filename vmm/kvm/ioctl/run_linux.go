package ioctl

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reasons of an exit, of every architecture.
const (
	ExitMMIO          = 6
	ExitFailEntry     = 9
	ExitIntr          = 10
	ExitInternalError = 17
	ExitSystemEvent   = 24
)

// Types of a system event.
const (
	EventShutdown = 1
	EventReset    = 2
	EventCrash    = 3
)

// Offsets in struct kvm_run.
const (
	runExitReason = 8
	runUnion      = 32

	mmioAddr    = runUnion
	mmioData    = runUnion + 8
	mmioLen     = runUnion + 16
	mmioIsWrite = runUnion + 20
)

// VCPU is a virtual processor. All but Kick is for one thread.
type VCPU struct {
	fd  int
	id  int
	run []byte
	// word is the first four bytes of struct kvm_run, of which the second is immediate_exit; the kernel does not write them.
	word *atomic.Uint32
}

// CreateVCPU adds a processor.
func (vm *VM) CreateVCPU(id int) (*VCPU, error) {
	fd, err := call(vm.fd, "CREATE_VCPU", number(none, 0x41, 0), uintptr(id))
	if err != nil {
		return nil, err
	}
	run, err := unix.Mmap(fd, 0, vm.runSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("map of a virtual processor's state: %w", err)
	}
	// The mapping begins at a page; four of its bytes are seen as a word since Go has no atomic access to one.
	return &VCPU{fd: fd, id: id, run: run, word: (*atomic.Uint32)(unsafe.Pointer(&run[0]))}, nil
}

// ID is the number that CreateVCPU got.
func (c *VCPU) ID() int { return c.id }

// Close frees the processor; its thread has ended.
func (c *VCPU) Close() {
	unix.Munmap(c.run)
	unix.Close(c.fd)
}

const immediateExit = 1 << 8

// SetImmediateExit makes this or the next Run end with EINTR, once what the last exit asked for is done. It does not wake a processor that rests: a
// signal to its thread does.
func (c *VCPU) SetImmediateExit(on bool) {
	if on {
		c.word.Store(immediateExit)
	} else {
		c.word.Store(0)
	}
}

// Run enters the guest until it exits. EINTR and EAGAIN come as they are.
func (c *VCPU) Run() error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), number(none, 0x80, 0), 0); errno != 0 {
		return errno
	}
	return nil
}

// ExitReason is why Run returned.
func (c *VCPU) ExitReason() uint32 { return binary.NativeEndian.Uint32(c.run[runExitReason:]) }

// MMIO describes an ExitMMIO; Data is the guest's to read at the next Run if it is no write.
type MMIO struct {
	Write bool
	Addr  uint64
	Data  []byte
}

// MMIO is valid until the next Run.
func (c *VCPU) MMIO() MMIO {
	n := min(int(binary.NativeEndian.Uint32(c.run[mmioLen:])), 8)
	return MMIO{
		Write: c.run[mmioIsWrite] != 0, Addr: binary.NativeEndian.Uint64(c.run[mmioAddr:]),
		Data: c.run[mmioData : mmioData+n],
	}
}

// SystemEvent is the type of an ExitSystemEvent.
func (c *VCPU) SystemEvent() uint32 { return binary.NativeEndian.Uint32(c.run[runUnion:]) }

// Explain says what is known of an exit that should not have been.
func (c *VCPU) Explain() string {
	reason, first := c.ExitReason(), binary.NativeEndian.Uint64(c.run[runUnion:])
	switch reason {
	case ExitFailEntry:
		return fmt.Sprintf("the processor refused to enter the guest, reason %#x", first)
	case ExitInternalError:
		return fmt.Sprintf("KVM could not go on, suberror %d", uint32(first))
	}
	return fmt.Sprintf("unexpected exit %d", reason)
}

// MPState is whether a processor runs (KVM_MP_STATE_…).
type MPState uint32

// Of MPState, those that a new processor may be given.
const (
	MPRunnable      MPState = 0
	MPUninitialized MPState = 1
)

// SetMPState sets it.
func (c *VCPU) SetMPState(s MPState) error { return with(c.fd, "SET_MP_STATE", write, 0x99, &s) }
