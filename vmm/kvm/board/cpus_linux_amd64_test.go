package board

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/ioctl"
)

// tinyCode is where each processor's code begins, a page for each.
const tinyCode = 0x1000

func newTiny(t testing.TB, sys *ioctl.System, code ...[]byte) *tiny {
	t.Helper()
	vm, err := createVM(sys, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	g := &tiny{vm: vm}
	t.Cleanup(g.close)
	if g.mem, err = unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		t.Fatal(err)
	}
	if err := vm.SetMemory(0, 0, g.mem); err != nil {
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
		s, err := cpu.Sregs()
		if err != nil {
			t.Fatal(err)
		}
		s.CS.Base, s.CS.Selector = 0, 0
		if err := errors.Join(cpu.SetSregs(&s), cpu.SetRegs(&ioctl.Regs{RIP: uint64(at), RSP: 0x8000, RFLAGS: 2}), cpu.SetMPState(ioctl.MPRunnable)); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestExits(t *testing.T) {
	g := newTiny(t, openKVM(t), []byte{
		0xb0, 0x42, // mov al, 42h
		0xe6, 0x10, // out 10h, al
		0xe4, 0x11, // in al, 11h
		0xa2, 0x00, 0x90, // mov [9000h], al
		0xb8, 0x00, 0xf0, 0x8e, 0xd8, // mov ax, f000h; mov ds, ax
		0xc6, 0x06, 0x00, 0xff, 0x55, // mov byte [ds:ff00h], 55h: past the end of memory
		0xa0, 0x01, 0xff, // mov al, [ds:ff01h]
		0x31, 0xdb, 0x8e, 0xdb, // xor bx, bx; mov ds, bx
		0xa2, 0x01, 0x90, // mov [9001h], al
		0xe6, 0x12, // out 12h, al
	})
	// The window: memory ends below the last page of the first megabyte.
	if err := g.vm.SetMemory(0, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.vm.SetMemory(0, 0, g.mem[:0xff000]); err != nil {
		t.Fatal(err)
	}
	c := g.cpus[0]
	step(t, c)
	if io := c.IO(); c.ExitReason() != ioctl.ExitIO || !io.Out || io.Port != 0x10 || io.Size != 1 || io.Data[0] != 0x42 {
		t.Fatalf("out: exit %d, %+v", c.ExitReason(), io)
	}
	step(t, c)
	io := c.IO()
	if c.ExitReason() != ioctl.ExitIO || io.Out || io.Port != 0x11 {
		t.Fatalf("in: exit %d, %+v", c.ExitReason(), io)
	}
	io.Data[0] = 0x77
	step(t, c)
	if m := c.MMIO(); c.ExitReason() != ioctl.ExitMMIO || !m.Write || m.Addr != 0xfff00 || len(m.Data) != 1 || m.Data[0] != 0x55 {
		t.Fatalf("write: exit %d, %+v", c.ExitReason(), m)
	}
	step(t, c)
	m := c.MMIO()
	if c.ExitReason() != ioctl.ExitMMIO || m.Write || m.Addr != 0xfff01 {
		t.Fatalf("read: exit %d, %+v", c.ExitReason(), m)
	}
	m.Data[0] = 0x66
	step(t, c)
	if g.mem[0x9000] != 0x77 || g.mem[0x9001] != 0x66 {
		t.Errorf("the guest read %#x and %#x", g.mem[0x9000], g.mem[0x9001])
	}
}

var halted = []byte{0xfa, 0xf4, 0xeb, 0xfd} // cli; l: hlt; jmp l

var spinning = []byte{0xfa, 0xff, 0x06, 0x00, 0x90, 0xeb, 0xfa} // cli; l: inc word [9000h]; jmp l

func (g *tiny) spun(testing.TB, int) uint64 {
	return uint64(binary.LittleEndian.Uint16(g.mem[0x9000:]))
}

var chatty = []byte{0xfa, 0xe6, 0x10, 0xeb, 0xfc} // cli; l: out 10h, al; jmp l

func TestEventDescriptors(t *testing.T) {
	// sti; hlt waits for the interrupt; its handler writes where ioeventfd listens.
	g := newTiny(t, openKVM(t), halted)
	kick, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kick)
	if err := g.vm.SetMemory(0, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.vm.SetMemory(0, 0, g.mem[:0xff000]); err != nil {
		t.Fatal(err)
	}
	if err := g.vm.IOEventFD(kick, 0xfff50, 7); err != nil {
		t.Fatal(err)
	}
	// mov ax, f000h; mov ds, ax; mov dword [ff50h], 6; mov dword [ff50h], 7; mov dword [ff50h], 7; out 10h, al
	code := []byte{0xb8, 0x00, 0xf0, 0x8e, 0xd8}
	for _, v := range []byte{6, 7, 7} {
		code = append(code, 0x66, 0xc7, 0x06, 0x50, 0xff, v, 0, 0, 0)
	}
	copy(g.mem[tinyCode:], append(code, 0xe6, 0x10))
	c := g.cpus[0]
	step(t, c)
	if m := c.MMIO(); c.ExitReason() != ioctl.ExitMMIO || m.Data[0] != 6 {
		t.Fatalf("a value that is not the queue's: exit %d, %+v", c.ExitReason(), m)
	}
	step(t, c)
	if c.ExitReason() != ioctl.ExitIO {
		t.Fatalf("after two kicks: exit %d", c.ExitReason())
	}
	var b [8]byte
	if _, err := unix.Read(kick, b[:]); err != nil || binary.NativeEndian.Uint64(b[:]) != 2 {
		t.Errorf("%d kicks, %v", binary.NativeEndian.Uint64(b[:]), err)
	}
}
