package board

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/ioctl"
)

// tinyCode is where in memory each processor's code begins, a page for each; tinyIO, behind memory, is where every access exits.
const (
	tinySize = 1 << 20
	tinyCode = 0x1000
	tinyIO   = ramBase + tinySize
)

// newTiny has the processors begin with x1 at tinyIO, the MMU off and interrupts masked. What a guest so stores into memory may be hidden from its host by
// caches: it tells by registers.
func newTiny(t testing.TB, sys *ioctl.System, code ...[]byte) *tiny {
	t.Helper()
	vm, err := createVM(sys, tinySize)
	if err != nil {
		t.Fatal(err)
	}
	g := &tiny{vm: vm}
	t.Cleanup(g.close)
	if g.mem, err = unix.Mmap(-1, 0, tinySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		t.Fatal(err)
	}
	if err := vm.SetMemory(0, ramBase, g.mem); err != nil {
		t.Fatal(err)
	}
	for i, c := range code {
		at := tinyCode * (i + 1)
		copy(g.mem[at:], c)
		cpu, err := vm.CreateVCPU(i)
		if err != nil {
			t.Fatal(err)
		}
		g.cpus = append(g.cpus, cpu)
		if err := errors.Join(cpu.Init(vm, false), cpu.SetReg(ioctl.RegPC, uint64(ramBase+at)), cpu.SetReg(ioctl.RegX(1), tinyIO)); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func words(list ...uint32) []byte {
	var b []byte
	for _, w := range list {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

var halted = words(
	0xd503207f, // l: wfi
	0x17ffffff, // b l
)

var spinning = words(
	0x91000400, // l: add x0, x0, #1
	0x17ffffff, // b l
)

func (g *tiny) spun(t testing.TB, cpu int) uint64 {
	t.Helper()
	v, err := g.cpus[cpu].Reg(ioctl.RegX(0))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var chatty = words(
	0xb9000020, // l: str w0, [x1]
	0x17ffffff, // b l
)

func TestExits(t *testing.T) {
	g := newTiny(t, openKVM(t), words(
		0x52800840,                         // mov w0, #0x42
		0xb9000020,                         // str w0, [x1]
		0x39400422,                         // ldrb w2, [x1, #1]
		0xf9000422,                         // str x2, [x1, #8]
		0x52800100, 0x72b08000, 0xd4000002, // mov w0, #SYSTEM_OFF; hvc #0
	))
	c := g.cpus[0]
	step(t, c)
	if m := c.MMIO(); c.ExitReason() != ioctl.ExitMMIO || !m.Write || m.Addr != tinyIO || len(m.Data) != 4 || m.Data[0] != 0x42 {
		t.Fatalf("write: exit %d, %+v", c.ExitReason(), m)
	}
	step(t, c)
	m := c.MMIO()
	if c.ExitReason() != ioctl.ExitMMIO || m.Write || m.Addr != tinyIO+1 || len(m.Data) != 1 {
		t.Fatalf("read: exit %d, %+v", c.ExitReason(), m)
	}
	m.Data[0] = 0x66
	step(t, c)
	if m := c.MMIO(); c.ExitReason() != ioctl.ExitMMIO || !m.Write || m.Addr != tinyIO+8 || len(m.Data) != 8 || binary.LittleEndian.Uint64(m.Data) != 0x66 {
		t.Fatalf("what was read: exit %d, %+v", c.ExitReason(), m)
	}
	step(t, c)
	if c.ExitReason() != ioctl.ExitSystemEvent || c.SystemEvent() != ioctl.EventShutdown {
		t.Fatalf("power off: exit %d, %d", c.ExitReason(), c.SystemEvent())
	}
}

// TestStartsOthers: a processor that is off runs when another starts it, and rests for a pause before.
func TestStartsOthers(t *testing.T) {
	const second = ramBase + 2*tinyCode
	g := newTiny(t, openKVM(t), words(
		0xb9000020,                         // str w0, [x1]
		0xd2800060, 0xf2b88000, 0xd2800021, // mov x0, #CPU_ON; mov x1, #1
		0xd2840002, 0xf2a80002, 0xd2800ae3, // mov x2, #second; mov x3, #0x57
		0xd4000002, // hvc #0
		0xd503207f, // l: wfi
		0x17ffffff, // b l
	), words(
		0xd2a80201, // mov x1, #tinyIO
		0xb9000020, // str w0, [x1]
		0xd503207f, // l: wfi
		0x17ffffff, // b l
	))
	if second != 0x4000_2000 || tinyIO != 0x4010_0000 {
		t.Fatal("the code has other addresses")
	}
	if err := g.cpus[1].Init(g.vm, true); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan [2]uint32, 2)
	p := startProcessors(g.cpus, func(c *ioctl.VCPU) {
		if c.ExitReason() == ioctl.ExitMMIO {
			wrote <- [2]uint32{uint32(c.ID()), binary.LittleEndian.Uint32(c.MMIO().Data)}
		}
	}, func(err error) { t.Error(err) })
	p.give(run)
	defer p.stop()
	for range 20 {
		p.pause()
		p.resume()
	}
	for _, want := range [][2]uint32{{0, 0}, {1, 0x57}} {
		select {
		case got := <-wrote:
			if got != want {
				t.Fatalf("processor and value: %v, want %v", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%v does not come", want)
		}
	}
}

func TestEventDescriptors(t *testing.T) {
	g := newTiny(t, openKVM(t), words(
		0x528000c0, 0xb9005020, // mov w0, #6; str w0, [x1, #0x50]
		0x528000e0, 0xb9005020, // mov w0, #7; …
		0xb9005020,
		0xb9000020, // str w0, [x1]
	))
	kick, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kick)
	if err := g.vm.IOEventFD(kick, tinyIO+0x50, 7); err != nil {
		t.Fatal(err)
	}
	c := g.cpus[0]
	step(t, c)
	if m := c.MMIO(); c.ExitReason() != ioctl.ExitMMIO || m.Data[0] != 6 {
		t.Fatalf("a value that is not the queue's: exit %d, %+v", c.ExitReason(), m)
	}
	step(t, c)
	if m := c.MMIO(); c.ExitReason() != ioctl.ExitMMIO || m.Addr != tinyIO {
		t.Fatalf("after two kicks: exit %d, %+v", c.ExitReason(), m)
	}
	var b [8]byte
	if _, err := unix.Read(kick, b[:]); err != nil || binary.NativeEndian.Uint64(b[:]) != 2 {
		t.Errorf("%d kicks, %v", binary.NativeEndian.Uint64(b[:]), err)
	}
}

// TestInterrupt: a signal of an irqfd wakes a processor that waits, and is the interrupt that the GSI says.
func TestInterrupt(t *testing.T) {
	const spi = 3
	g := newTiny(t, openKVM(t), words(
		0xd2a10002,             // mov x2, #gicDistributor
		0x52800043, 0xb9000043, // GICD_CTLR: EnableGrp1
		0x52800103, 0xb9010443, // GICD_ISENABLER1: 1 << spi
		0x52801003, 0xb90c0843, // GICD_ICFGR2: spi is an edge
		0x52801fe3, 0xd5184603, // ICC_PMR_EL1: all priorities
		0x52800023, 0xd518cce3, // ICC_IGRPEN1_EL1
		0xb9000020, // str w0, [x1]
		0xd503207f, // wfi: an interrupt ends it, masked or not
		0xd538cc00, // mrs x0, ICC_IAR1_EL1
		0xb9000020, // str w0, [x1]
		0xd503207f, // l: wfi
		0x17ffffff, // b l
	))
	gic, err := g.vm.CreateGIC(gicDistributor, gicRedistributors, interrupts)
	if err != nil {
		t.Fatal(err)
	}
	defer gic.Close()
	irq, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(irq)
	if err := g.vm.IRQFD(irq, spi); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan uint32, 2)
	p := startProcessors(g.cpus, func(c *ioctl.VCPU) { wrote <- binary.LittleEndian.Uint32(c.MMIO().Data) }, func(err error) { t.Error(err) })
	p.give(run)
	defer p.stop()
	<-wrote
	select {
	case v := <-wrote:
		t.Fatalf("interrupt %d before there was one", v)
	case <-time.After(10 * time.Millisecond):
	}
	if _, err := unix.Write(irq, binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		t.Fatal(err)
	}
	select {
	case v := <-wrote:
		if v != 32+spi {
			t.Errorf("interrupt %d", v)
		}
	case <-time.After(time.Minute):
		t.Fatal("the processor does not wake")
	}
}
