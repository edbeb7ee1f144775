package ioctl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities of x86.
const (
	CapSetTSSAddr       = 4
	CapTSCDeadlineTimer = 72
)

// Reasons of an exit of x86.
const (
	ExitIO       = 2
	ExitHLT      = 5
	ExitShutdown = 8 // a triple fault
)

// Offsets in struct kvm_run for an ExitIO.
const (
	ioDirection  = runUnion // 1 is out
	ioSize       = runUnion + 1
	ioPort       = runUnion + 2
	ioCount      = runUnion + 4
	ioDataOffset = runUnion + 8
)

// IO describes an ExitIO: count accesses of size bytes, one after another in data, which is the guest's to read at the next Run if it is not out.
type IO struct {
	Out  bool
	Port uint16
	Size int
	Data []byte
}

// IO is valid until the next Run.
func (c *VCPU) IO() IO {
	size, count := int(c.run[ioSize]), int(binary.NativeEndian.Uint32(c.run[ioCount:]))
	off := int(binary.NativeEndian.Uint64(c.run[ioDataOffset:]))
	return IO{
		Out: c.run[ioDirection] == 1, Port: binary.NativeEndian.Uint16(c.run[ioPort:]), Size: size,
		Data: c.run[off : off+size*count],
	}
}

// Regs is struct kvm_regs.
type Regs struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
}

// Segment is struct kvm_segment.
type Segment struct {
	Base                            uint64
	Limit                           uint32
	Selector                        uint16
	Type, Present, DPL, DB, S, L, G uint8
	AVL, Unusable, _                uint8
}

// Table is struct kvm_dtable.
type Table struct {
	Base  uint64
	Limit uint16
	_     [3]uint16
}

// Sregs is struct kvm_sregs.
type Sregs struct {
	CS, DS, ES, FS, GS, SS, TR, LDT Segment
	GDT, IDT                        Table
	CR0, CR2, CR3, CR4, CR8         uint64
	EFER, APICBase                  uint64
	Interrupts                      [4]uint64
}

// FPU is struct kvm_fpu.
type FPU struct {
	FPR            [8][16]uint8
	FCW, FSW       uint16
	FTWX, _        uint8
	LastOpcode     uint16
	LastIP, LastDP uint64
	XMM            [16][16]uint8
	MXCSR          uint32
	_              uint32
}

// CPUIDEntry is struct kvm_cpuid_entry2.
type CPUIDEntry struct {
	Function, Index, Flags uint32
	EAX, EBX, ECX, EDX     uint32
	_                      [3]uint32
}

// CPUIDIndexed in an entry's Flags: it answers for its index alone.
const CPUIDIndexed = 1

// maxCPUID bounds the table (KVM_MAX_CPUID_ENTRIES).
const maxCPUID = 256

type cpuidTable struct {
	n, _    uint32
	entries [maxCPUID]CPUIDEntry
}

// headerSize is what the numbers of calls with a table at their end are made of.
const headerSize = 8

// SupportedCPUID is what the processor and KVM can give to a guest.
func (s *System) SupportedCPUID() ([]CPUIDEntry, error) {
	t := cpuidTable{n: maxCPUID}
	if _, err := call(s.fd, "GET_SUPPORTED_CPUID", number(read|write, 0x05, headerSize), uintptr(unsafe.Pointer(&t))); err != nil {
		return nil, err
	}
	return append([]CPUIDEntry(nil), t.entries[:min(t.n, maxCPUID)]...), nil
}

// SetCPUID sets what a processor tells of itself.
func (c *VCPU) SetCPUID(entries []CPUIDEntry) error {
	if len(entries) > maxCPUID {
		return fmt.Errorf("%d CPUID entries, at most %d", len(entries), maxCPUID)
	}
	t := cpuidTable{n: uint32(len(entries))}
	copy(t.entries[:], entries)
	_, err := call(c.fd, "SET_CPUID2", number(write, 0x90, headerSize), uintptr(unsafe.Pointer(&t)))
	return err
}

// MSR is one model-specific register (struct kvm_msr_entry).
type MSR struct {
	Index, _ uint32
	Data     uint64
}

// maxMSRs is less than MAX_IO_MSRS of arch/x86/kvm/x86.c.
const maxMSRs = 255

// SetMSRs sets registers in their order. One that the kernel refuses ends it with an error that names it.
func (c *VCPU) SetMSRs(msrs []MSR) error {
	var t struct {
		n, _    uint32
		entries [maxMSRs]MSR
	}
	if len(msrs) > maxMSRs {
		return fmt.Errorf("%d MSRs at once, at most %d", len(msrs), maxMSRs)
	}
	t.n = uint32(len(msrs))
	copy(t.entries[:], msrs)
	n, err := call(c.fd, "SET_MSRS", number(write, 0x89, headerSize), uintptr(unsafe.Pointer(&t)))
	if err == nil && n < len(msrs) {
		err = fmt.Errorf("KVM_SET_MSRS: MSR %#x is refused", msrs[n].Index)
	}
	return err
}

// SetRegs sets the general registers.
func (c *VCPU) SetRegs(r *Regs) error { return with(c.fd, "SET_REGS", write, 0x82, r) }

// Regs reads the general registers.
func (c *VCPU) Regs() (r Regs, err error) {
	err = with(c.fd, "GET_REGS", read, 0x81, &r)
	return r, err
}

// SetSregs sets the special registers.
func (c *VCPU) SetSregs(s *Sregs) error { return with(c.fd, "SET_SREGS", write, 0x84, s) }

// Sregs reads the special registers.
func (c *VCPU) Sregs() (s Sregs, err error) {
	err = with(c.fd, "GET_SREGS", read, 0x83, &s)
	return s, err
}

// SetFPU sets the floating-point registers.
func (c *VCPU) SetFPU(f *FPU) error { return with(c.fd, "SET_FPU", write, 0x8d, f) }

// SetTSSAddress tells KVM where, in the guest's address space below 4 GiB, it may keep three pages of its own. Intel's processors need them for real mode.
func (vm *VM) SetTSSAddress(gpa uint32) error {
	_, err := call(vm.fd, "SET_TSS_ADDR", number(none, 0x47, 0), uintptr(gpa))
	return err
}

// SetIdentityMap tells KVM where it may keep one page more.
func (vm *VM) SetIdentityMap(gpa uint64) error {
	err := with(vm.fd, "SET_IDENTITY_MAP_ADDR", write, 0x48, &gpa)
	if errors.Is(err, unix.ENOTTY) {
		return nil // a KVM that needs none
	}
	return err
}

// CreateIRQChip puts the interrupt controllers into the kernel: a local APIC for each processor made afterwards, an I/O APIC and two 8259s.
func (vm *VM) CreateIRQChip() error {
	_, err := call(vm.fd, "CREATE_IRQCHIP", number(none, 0x60, 0), 0)
	return err
}
