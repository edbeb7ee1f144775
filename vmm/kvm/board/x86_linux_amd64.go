package board

import (
	"crypto/rand"
	"fmt"

	"capsid/vmm/kvm/acpi"
	"capsid/vmm/kvm/boot"
	"capsid/vmm/kvm/ioctl"
	"capsid/vmm/virtio"
)

// The guest's physical addresses. RAM ends at 3 GiB and goes on at 4 GiB; the devices are in between.
const (
	ramGap     = 3 << 30
	highRAM    = 4 << 30
	slotBase   = 0xd000_0000
	firstGSI   = 5
	vmgenidGSI = 4
	// KVM's own pages, see ioctl.SetTSSAddress.
	tssAddress  = 0xfffb_d000
	identityMap = 0xfffb_c000
	// The generation ID is in the last page of what the kernel leaves to firmware, behind the ACPI tables.
	vmgenid = 0xf_f000
)

// parameters are the kernel's for this processor.
var parameters = []string{
	// Until the driver of hvc0 is there, the serial port says what is worth saying.
	"earlyprintk=serial,ttyS0,115200", "8250.nr_uarts=0",
	"reboot=acpi", "pci=off", "no_timer_check",
	// No device here copies through memory that is set aside below 4 GiB; a machine with more would have 64 MiB of it.
	"swiotlb=noforce",
}

// platform is what only this kind of machine has.
type platform struct {
	serial serial
	cpuid  [][]ioctl.CPUIDEntry // what each processor tells of itself
	msrs   []uint32             // that make up a processor's state
}

func (platform) windows() []window { return nil } // the serial port is at ports

func (platform) close() {}

func createVM(sys *ioctl.System, _ int64) (*ioctl.VM, error) {
	vm, err := sys.CreateVM(0)
	if err != nil {
		return nil, err
	}
	err = vm.SetIdentityMap(identityMap)
	if err == nil {
		err = vm.SetTSSAddress(tssAddress)
	}
	if err == nil {
		err = vm.CreateIRQChip()
	}
	if err != nil {
		vm.Close()
		return nil, err
	}
	return vm, nil
}

func splitRAM(b []byte) []virtio.Region {
	low := b[:min(len(b), ramGap)]
	regions := []virtio.Region{{Base: 0, Bytes: low}}
	if high := b[len(low):]; len(high) > 0 {
		regions = append(regions, virtio.Region{Base: highRAM, Bytes: high})
	}
	return regions
}

func slotGSI(slot int) int { return firstGSI + slot }

// addInterrupts: the controllers came with the machine.
func (b *Board) addInterrupts() error { return nil }

// keepInMind asks what a snapshot will need to know.
func (b *Board) keepInMind(sys *ioctl.System) (err error) {
	b.msrs, err = savedMSRs(sys)
	return err
}

func createProcessor(vm *ioctl.VM, id int) (*ioctl.VCPU, error) { return vm.CreateVCPU(id) }

// load puts tables and kernel into memory and the processors before their first instruction.
func (b *Board) load(sys *ioctl.System, cfg Config) error {
	if err := b.writeTables(cfg.CPUs); err != nil {
		return err
	}
	kernel, err := boot.File(cfg.Kernel)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	initrd, err := boot.File(cfg.Initrd)
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	var ranges []boot.Range
	for _, r := range b.memory.Regions() {
		ranges = append(ranges, boot.Range{Base: r.Base, Size: uint64(len(r.Bytes))})
	}
	memory := loading{b.memory, b.ram}
	state, err := boot.Load(memory, boot.Config{
		Kernel: kernel, Initrd: initrd, Cmdline: cmdline(cfg.Cmdline),
		RAM: ranges, RSDP: acpi.DefaultBase,
	})
	if err != nil {
		return err
	}
	memory.ahead(initrd.Size())
	cpuid, err := guestCPUID(sys)
	if err != nil {
		return err
	}
	for i, c := range b.vcpus {
		own := cpuidOf(cpuid, i, len(b.vcpus))
		if err := setUp(c, own); err != nil {
			return fmt.Errorf("processor %d: %w", i, err)
		}
		b.cpuid = append(b.cpuid, own)
	}
	// The others wait for the first to start them.
	if err := setStart(b.vcpus[0], state); err != nil {
		return fmt.Errorf("processor 0: %w", err)
	}
	return nil
}

func (b *Board) writeTables(cpus int) error {
	c := acpi.Config{Base: acpi.DefaultBase, CPUs: cpus, VMGen: &acpi.VMGenID{Address: vmgenid, GSI: vmgenidGSI}}
	for i := range b.bus.slots {
		c.Virtio = append(c.Virtio, acpi.VirtioSlot{Base: uint32(slotAddress(i)), Size: slotWindow, GSI: uint32(slotGSI(i))})
	}
	tables, err := acpi.Tables(c)
	if err != nil {
		return fmt.Errorf("ACPI tables: %w", err)
	}
	to, err := b.memory.Slice(acpi.DefaultBase, uint64(len(tables)))
	if err != nil || acpi.DefaultBase+len(tables) > vmgenid {
		return fmt.Errorf("ACPI tables of %d bytes: no room (%v)", len(tables), err)
	}
	copy(to, tables)
	id, err := b.memory.Slice(vmgenid, vmgenidBytes)
	if err != nil {
		return err
	}
	_, _ = rand.Read(id)
	return nil
}

// Model-specific registers (Intel SDM volume 4; Linux's msr-index.h).
const (
	msrMiscEnable     = 0x1a0
	miscFastString    = 1
	msrMTRRDefault    = 0x2ff
	mtrrOnWriteBack   = 1<<11 | 6
	fpuControlDefault = 0x37f
	mxcsrDefault      = 0x1f80
)

// setUp is what firmware would have done with each processor.
func setUp(c *ioctl.VCPU, cpuid []ioctl.CPUIDEntry) error {
	if err := c.SetCPUID(cpuid); err != nil {
		return err
	}
	if err := c.SetMSRs([]ioctl.MSR{{Index: msrMiscEnable, Data: miscFastString}, {Index: msrMTRRDefault, Data: mtrrOnWriteBack}}); err != nil {
		return err
	}
	return c.SetFPU(&ioctl.FPU{FCW: fpuControlDefault, MXCSR: mxcsrDefault})
}

// setStart puts a processor where the kernel is entered.
func setStart(c *ioctl.VCPU, s boot.State) error {
	sregs, err := c.Sregs()
	if err != nil {
		return err
	}
	data := segment(s.Data)
	sregs.CS, sregs.DS, sregs.ES, sregs.FS, sregs.GS, sregs.SS = segment(s.CS), data, data, data, data, data
	sregs.TR = segment(s.TR)
	sregs.GDT = ioctl.Table{Base: s.GDT.Base, Limit: s.GDT.Limit}
	sregs.IDT = ioctl.Table{Base: s.IDT.Base, Limit: s.IDT.Limit}
	sregs.CR0, sregs.CR3, sregs.CR4, sregs.EFER = s.CR0, s.CR3, s.CR4, s.EFER
	if err := c.SetSregs(&sregs); err != nil {
		return err
	}
	return c.SetRegs(&ioctl.Regs{RIP: s.RIP, RBX: s.RBX, RSI: s.RSI, RFLAGS: s.RFLAGS})
}

func segment(s boot.Segment) ioctl.Segment {
	return ioctl.Segment{
		Base: s.Base, Limit: s.Limit, Selector: s.Selector, Type: s.Type, Present: s.Present, DPL: s.DPL, DB: s.DB, S: s.S, L: s.L, G: s.G,
	}
}

// Ports that are not the serial one's.
const (
	i8042Command = 0x64
	i8042Reset   = 0xfe
)

// platformExit serves the exits that only x86 has.
func (b *Board) platformExit(c *ioctl.VCPU) bool {
	switch c.ExitReason() {
	case ioctl.ExitIO:
		b.port(c.IO())
	case ioctl.ExitShutdown:
		// A kernel without a better way reboots so.
		b.finish(Reboot, nil)
	default:
		return false
	}
	return true
}

// port serves a port of the processor's own address space.
func (b *Board) port(io ioctl.IO) {
	for ; len(io.Data) >= io.Size && io.Size > 0; io.Data = io.Data[io.Size:] {
		p := io.Data[:io.Size]
		if io.Out {
			b.out(io.Port, p[0])
			continue
		}
		for i := range p {
			p[i] = b.in(io.Port + uint16(i))
		}
	}
}

func (b *Board) out(port uint16, v byte) {
	switch {
	case port >= com1 && port < com1+com1Size:
		b.serial.write(port-com1, v)
	case port == acpi.SleepControlPort && v == acpi.SleepOff:
		b.finish(PowerOff, nil)
	case port == acpi.ResetPort && v == acpi.ResetValue, port == i8042Command && v == i8042Reset:
		b.finish(Reboot, nil)
	}
}

func (b *Board) in(port uint16) byte {
	switch {
	case port >= com1 && port < com1+com1Size:
		return b.serial.read(port - com1)
	case port == acpi.SleepStatusPort:
		return 0
	}
	return 0xff
}
