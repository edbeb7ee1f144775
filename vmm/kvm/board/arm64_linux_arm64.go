package board

import (
	"crypto/rand"
	"fmt"
	"math/bits"

	"capsid/vmm/kvm/boot"
	"capsid/vmm/kvm/ioctl"
	"capsid/vmm/virtio"
)

// The guest's physical addresses. Devices are below 1 GiB and RAM is from there on, in one piece.
const (
	gicDistributor     = 0x0800_0000
	gicDistributorSize = 0x1_0000
	gicRedistributors  = 0x080a_0000
	gicRedistributor   = 0x2_0000 // for each processor
	serialBase         = 0x0900_0000
	slotBase           = 0x0a00_0000
	ramBase            = 0x4000_0000
)

// Shared interrupts, which are GSIs too. The controller has as many as it has to: its number counts 32 of each processor's own, in steps of 32.
const (
	vmgenidSPI = 0
	firstSPI   = 1
	interrupts = 32 + (firstSPI+maxSlots+31)/32*32
)

// vmgenidSize is what is kept of RAM's end for the generation ID: no kernel's pages are larger.
const vmgenidSize = 64 << 10

// parameters are the kernel's for this machine.
var parameters = []string{
	// Until the driver of hvc0 is there, the serial port says what is worth saying.
	fmt.Sprintf("earlycon=pl011,mmio32,%#x", serialBase),
	// No device here needs memory in one piece: Debian's kernel would keep 64 MiB for such.
	"cma=0",
}

// platform is what only this kind of machine has.
type platform struct {
	serial serial
	gic    *ioctl.GIC
}

func (p *platform) windows() []window { return []window{{serialBase, serialSize, &p.serial}} }

func (p *platform) close() {
	if p.gic != nil {
		p.gic.Close()
	}
}

// minAddressBits is the least size of guest-physical addresses that KVM takes (api.rst, KVM_CREATE_VM).
const minAddressBits = 32

// createVM makes a machine whose addresses are no longer than its memory needs: the fewer levels the tables have that KVM keeps for it, the better, and some
// processors have less than the usual size.
func createVM(sys *ioctl.System, memory int64) (*ioctl.VM, error) {
	size := max(minAddressBits, bits.Len64(ramBase+uint64(memory)-1))
	limit := sys.CheckExtension(ioctl.CapARMVMIPASize)
	if limit == 0 { // Linux before 4.20 knows one size, of 40
		return sys.CreateVM(0)
	}
	if size > limit {
		return nil, fmt.Errorf("%d MiB of memory: this processor gives guests addresses of %d bits", memory>>20, limit)
	}
	return sys.CreateVM(uint64(size))
}

func splitRAM(b []byte) []virtio.Region { return []virtio.Region{{Base: ramBase, Bytes: b}} }

func slotGSI(slot int) int { return firstSPI + slot }

// createProcessor: the first runs at once, it starts the others.
func createProcessor(vm *ioctl.VM, id int) (*ioctl.VCPU, error) {
	c, err := vm.CreateVCPU(id)
	if err != nil {
		return nil, err
	}
	if err := c.Init(vm, id > 0); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// addInterrupts adds the controller, which wants to know how many processors there are.
func (b *Board) addInterrupts() (err error) {
	b.gic, err = b.vm.CreateGIC(gicDistributor, gicRedistributors, interrupts)
	return err
}

// platformExit: there are no exits that only arm64 has.
func (b *Board) platformExit(*ioctl.VCPU) bool { return false }

// load puts kernel and device tree into memory and the first processor before its first instruction.
func (b *Board) load(_ *ioctl.System, cfg Config) error {
	kernel, err := boot.File(cfg.Kernel)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	initrd, err := boot.File(cfg.Initrd)
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	size := uint64(len(b.memory.Regions()[0].Bytes))
	t := tree{ram: boot.Range{Base: ramBase, Size: size - vmgenidSize}, slots: len(b.bus.slots), cmdline: cmdline(cfg.Cmdline)}
	for _, c := range b.vcpus {
		affinity, err := c.Reg(ioctl.RegMPIDR)
		if err != nil {
			return fmt.Errorf("processor %d: %w", c.ID(), err)
		}
		t.processors = append(t.processors, affinity&affinityMask)
	}
	id, err := b.memory.Slice(t.ram.End(), vmgenidBytes)
	if err != nil {
		return err
	}
	_, _ = rand.Read(id)
	state, err := boot.LoadARM64(loading{b.memory, b.ram}, boot.Config{Kernel: kernel, Initrd: initrd, RAM: []boot.Range{t.ram}}, t.bytes)
	if err != nil {
		return err
	}
	for reg, v := range map[ioctl.Reg]uint64{ioctl.RegPC: state.PC, ioctl.RegX(0): state.X0} {
		if err := b.vcpus[0].SetReg(reg, v); err != nil {
			return fmt.Errorf("processor 0: %w", err)
		}
	}
	return nil
}
