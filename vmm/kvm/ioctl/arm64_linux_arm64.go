package ioctl

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities of arm64.
const (
	CapARMPSCI02    = 102
	CapARMVMIPASize = 165 // extent: the greatest size of guest-physical addresses, in bits
)

// Features of a virtual processor (arch/arm64/include/uapi/asm/kvm.h).
const (
	featurePowerOff = 1 << 0
	featurePSCI02   = 1 << 2
)

// vcpuInit is struct kvm_vcpu_init: a kind of processor, which the kernel names, and seven words of features, of which only the first is in use.
type vcpuInit [8]uint32

// Init makes a new processor what the host's is, in the state of a reset, with PSCI in the kernel. One that is off waits for another's CPU_ON. It has
// neither SVE, nor performance counters, nor pointer authentication: those are the host's own, and tie a saved guest to it.
func (c *VCPU) Init(vm *VM, off bool) error {
	var v vcpuInit
	if err := with(vm.fd, "ARM_PREFERRED_TARGET", read, 0xaf, &v); err != nil {
		return err
	}
	features := uint32(featurePSCI02)
	if off {
		features |= featurePowerOff
	}
	v = vcpuInit{v[0], features}
	return with(c.fd, "ARM_VCPU_INIT", write, 0xae, &v)
}

// Reg is the number of a 64-bit register: KVM_REG_ARM64 | KVM_REG_SIZE_U64 and where it is.
type Reg uint64

const (
	regU64    = 0x6030_0000_0000_0000
	regCore   = regU64 | 0x0010<<16
	regSystem = regU64 | 0x0013<<16
)

// Registers beside X. Those of the core are at their offset in struct kvm_regs, counted in words of 32 bits; those of the system have op0, op1, CRn, CRm and op2.
const (
	RegSP     Reg = regCore | 31*2
	RegPC     Reg = regCore | 32*2
	RegPstate Reg = regCore | 33*2
	RegMPIDR  Reg = regSystem | 3<<14 | 0<<11 | 0<<7 | 0<<3 | 5
)

// RegX is general register n, 0 to 30.
func RegX(n int) Reg { return Reg(regCore | uint64(n)*2) }

// oneReg is struct kvm_one_reg. The pointer keeps what it points to from moving, as an address in a number would not.
type oneReg struct {
	id   Reg
	addr *uint64
}

// SetReg writes a register.
func (c *VCPU) SetReg(r Reg, v uint64) error {
	if err := with(c.fd, "SET_ONE_REG", write, 0xac, &oneReg{r, &v}); err != nil {
		return fmt.Errorf("register %#x: %w", uint64(r), err)
	}
	return nil
}

// Reg reads a register.
func (c *VCPU) Reg(r Reg) (uint64, error) {
	var v uint64
	if err := with(c.fd, "GET_ONE_REG", write, 0xab, &oneReg{r, &v}); err != nil {
		return 0, fmt.Errorf("register %#x: %w", uint64(r), err)
	}
	return v, nil
}

// Devices of KVM, their groups of attributes and these (arch/arm64/include/uapi/asm/kvm.h; Documentation/virt/kvm/devices/arm-vgic-v3.rst).
const (
	deviceVGICv3     = 7
	createDeviceTest = 1

	vgicAddress       = 0
	vgicAddressDist   = 2
	vgicAddressRedist = 3
	vgicInterrupts    = 3
	vgicControl       = 4
	vgicControlInit   = 0
)

// GIC is an interrupt controller of version 3 in the kernel.
type GIC struct{ fd int }

// createDevice is struct kvm_create_device.
type createDevice struct{ kind, fd, flags uint32 }

// HasGIC says whether the host's interrupt controller can do what CreateGIC makes of it.
func (vm *VM) HasGIC() bool {
	return with(vm.fd, "CREATE_DEVICE", read|write, 0xe0, &createDevice{kind: deviceVGICv3, flags: createDeviceTest}) == nil
}

// CreateGIC adds a controller with its distributor's registers and those of the processors (128 KiB for each) at guest-physical addresses. interrupts, a multiple
// of 32 from 64 to 1024, counts the 32 that each processor has of its own; shared interrupt n is GSI n. All processors must have been made.
func (vm *VM) CreateGIC(distributor, redistributors uint64, interrupts uint32) (_ *GIC, err error) {
	d := createDevice{kind: deviceVGICv3}
	if err := with(vm.fd, "CREATE_DEVICE", read|write, 0xe0, &d); err != nil {
		if errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: the host has no GICv3", err)
		}
		return nil, err
	}
	g := &GIC{int(d.fd)}
	for _, a := range []struct {
		name  string
		group uint32
		attr  uint64
		value unsafe.Pointer
	}{
		{"distributor", vgicAddress, vgicAddressDist, unsafe.Pointer(&distributor)},
		{"redistributors", vgicAddress, vgicAddressRedist, unsafe.Pointer(&redistributors)},
		{"interrupts", vgicInterrupts, 0, unsafe.Pointer(&interrupts)},
		{"start", vgicControl, vgicControlInit, nil},
	} {
		if err := g.set(a.group, a.attr, a.value); err != nil {
			g.Close()
			return nil, fmt.Errorf("interrupt controller: %s: %w", a.name, err)
		}
	}
	return g, nil
}

// deviceAttr is struct kvm_device_attr.
type deviceAttr struct {
	_, group uint32 // the first has flags, of which there are none
	attr     uint64
	addr     unsafe.Pointer // of a value that the kernel reads during the call
}

func (g *GIC) set(group uint32, attr uint64, value unsafe.Pointer) error {
	return with(g.fd, "SET_DEVICE_ATTR", write, 0xe1, &deviceAttr{group: group, attr: attr, addr: value})
}

// Close lets go of the descriptor; the machine keeps the controller.
func (g *GIC) Close() { unix.Close(g.fd) }
