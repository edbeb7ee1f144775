package ioctl

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CapXSave2 is, asked of a machine, the size of its processors' extended state.
const CapXSave2 = 208

// xsaveSize is that of struct kvm_xsave, which is the least (KVM_SET_XSAVE takes what KVM_GET_XSAVE2 gave).
const xsaveSize = 4096

// XCRs is struct kvm_xcrs.
type XCRs struct {
	N, Flags uint32
	Regs     [16]struct {
		XCR, _ uint32
		Value  uint64
	}
	_ [16]uint64
}

// DebugRegs is struct kvm_debugregs.
type DebugRegs struct {
	DB       [4]uint64
	DR6, DR7 uint64
	Flags    uint64
	_        [9]uint64
}

// LAPIC is struct kvm_lapic_state.
type LAPIC [1024]byte

// Events is struct kvm_vcpu_events: what is about to happen to a processor.
type Events [64]byte

// IRQChip is struct kvm_irqchip: one of the three interrupt controllers that processors share.
type IRQChip struct {
	ID, _ uint32
	State [512]byte
}

// Chips are the IDs of the controllers: two 8259s and the I/O APIC.
const Chips = 3

// Clock is struct kvm_clock_data.
type Clock struct {
	Clock    uint64 // nanoseconds
	Flags, _ uint32
	Realtime uint64
	HostTSC  uint64
	_        [4]uint32
}

// CheckExtension asks the machine, for capabilities that depend on it.
func (vm *VM) CheckExtension(capability int) int {
	n, err := call(vm.fd, "CHECK_EXTENSION", number(none, 0x03, 0), uintptr(capability))
	if err != nil {
		return 0
	}
	return n
}

// XSaveSize is how many bytes XSave gives.
func (vm *VM) XSaveSize() int { return max(vm.CheckExtension(CapXSave2), xsaveSize) }

// XSave reads the extended state into a buffer of XSaveSize bytes.
func (c *VCPU) XSave(size int) ([]byte, error) {
	b := make([]byte, max(size, xsaveSize))
	nr, name := number(read, 0xcf, xsaveSize), "GET_XSAVE2"
	if size <= xsaveSize {
		nr, name = number(read, 0xa4, xsaveSize), "GET_XSAVE"
	}
	// The kernel fills the buffer, of the size that it has told, during the call only.
	_, err := call(c.fd, name, nr, uintptr(unsafe.Pointer(&b[0])))
	return b, err
}

// SetXSave sets what XSave gave.
func (c *VCPU) SetXSave(b []byte, size int) error {
	if len(b) != max(size, xsaveSize) {
		return fmt.Errorf("extended state of %d bytes; this machine's has %d", len(b), size)
	}
	_, err := call(c.fd, "SET_XSAVE", number(write, 0xa5, xsaveSize), uintptr(unsafe.Pointer(&b[0])))
	return err
}

// XCRs reads the extended control registers.
func (c *VCPU) XCRs() (x XCRs, err error) {
	err = with(c.fd, "GET_XCRS", read, 0xa6, &x)
	return x, err
}

// SetXCRs sets them.
func (c *VCPU) SetXCRs(x *XCRs) error { return with(c.fd, "SET_XCRS", write, 0xa7, x) }

// DebugRegs reads the debug registers.
func (c *VCPU) DebugRegs() (d DebugRegs, err error) {
	err = with(c.fd, "GET_DEBUGREGS", read, 0xa1, &d)
	return d, err
}

// SetDebugRegs sets them.
func (c *VCPU) SetDebugRegs(d *DebugRegs) error { return with(c.fd, "SET_DEBUGREGS", write, 0xa2, d) }

// LAPIC reads the local interrupt controller.
func (c *VCPU) LAPIC() (l LAPIC, err error) {
	err = with(c.fd, "GET_LAPIC", read, 0x8e, &l)
	return l, err
}

// SetLAPIC sets it.
func (c *VCPU) SetLAPIC(l *LAPIC) error { return with(c.fd, "SET_LAPIC", write, 0x8f, l) }

// Events reads what is about to happen to the processor.
func (c *VCPU) Events() (e Events, err error) {
	err = with(c.fd, "GET_VCPU_EVENTS", read, 0x9f, &e)
	return e, err
}

// SetEvents sets it.
func (c *VCPU) SetEvents(e *Events) error { return with(c.fd, "SET_VCPU_EVENTS", write, 0xa0, e) }

// MPState reads whether the processor runs.
func (c *VCPU) MPState() (s MPState, err error) {
	err = with(c.fd, "GET_MP_STATE", read, 0x98, &s)
	return s, err
}

// TSCKHz is the rate of the guest's time stamp counter.
func (c *VCPU) TSCKHz() (int, error) { return call(c.fd, "GET_TSC_KHZ", number(none, 0xa3, 0), 0) }

// SetTSCKHz sets it, on processors that can.
func (c *VCPU) SetTSCKHz(khz int) error {
	_, err := call(c.fd, "SET_TSC_KHZ", number(none, 0xa2, 0), uintptr(khz))
	return err
}

// ClockPaused tells a guest that has a kvm-clock that it was stopped, so that its watchdogs do not mind; others are not told.
func (c *VCPU) ClockPaused() error {
	_, err := call(c.fd, "KVMCLOCK_CTRL", number(none, 0xad, 0), 0)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// MSRs reads registers. What the processor does not have is left out.
func (c *VCPU) MSRs(indices []uint32) ([]MSR, error) {
	var out []MSR
	for len(indices) > 0 {
		var t struct {
			n, _    uint32
			entries [maxMSRs]MSR
		}
		n := min(len(indices), maxMSRs)
		t.n = uint32(n)
		for i, index := range indices[:n] {
			t.entries[i].Index = index
		}
		got, err := call(c.fd, "GET_MSRS", number(read|write, 0x88, headerSize), uintptr(unsafe.Pointer(&t)))
		if err != nil {
			return nil, err
		}
		got = min(got, n)
		out = append(out, t.entries[:got]...)
		indices = indices[got:]
		if got < n {
			indices = indices[1:] // the kernel stopped at one that it refuses
		}
	}
	return out, nil
}

// MSRIndices are the registers that make up a processor's state.
func (s *System) MSRIndices() ([]uint32, error) {
	const most = 4096
	var t struct {
		n       uint32
		indices [most]uint32
	}
	t.n = most
	if _, err := call(s.fd, "GET_MSR_INDEX_LIST", number(read|write, 0x02, 4), uintptr(unsafe.Pointer(&t))); err != nil {
		return nil, err
	}
	return append([]uint32(nil), t.indices[:min(t.n, most)]...), nil
}

// IRQChip reads a shared controller.
func (vm *VM) IRQChip(id int) (IRQChip, error) {
	c := IRQChip{ID: uint32(id)}
	err := with(vm.fd, "GET_IRQCHIP", read|write, 0x62, &c)
	return c, err
}

// SetIRQChip sets it. (The number says "read": so it is in the kernel's header.)
func (vm *VM) SetIRQChip(c *IRQChip) error { return with(vm.fd, "SET_IRQCHIP", read, 0x63, c) }

// Clock reads the guest's monotonic clock.
func (vm *VM) Clock() (c Clock, err error) {
	err = with(vm.fd, "GET_CLOCK", read, 0x7c, &c)
	return c, err
}

// SetClock lets the guest's clock go on from a time.
func (vm *VM) SetClock(ns uint64) error {
	return with(vm.fd, "SET_CLOCK", write, 0x7b, &Clock{Clock: ns})
}

type irqLevel struct{ gsi, level uint32 }

// Pulse is one edge on a GSI.
func (vm *VM) Pulse(gsi int) error {
	for _, level := range []uint32{1, 0} {
		if err := with(vm.fd, "IRQ_LINE", write, 0x61, &irqLevel{uint32(gsi), level}); err != nil {
			return err
		}
	}
	return nil
}
