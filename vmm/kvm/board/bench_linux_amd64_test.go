package board

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkExit is a round trip: out of the guest, to this program and back.
func BenchmarkExit(b *testing.B) {
	g := newTiny(b, openKVM(b), chatty)
	for b.Loop() {
		step(b, g.cpus[0])
	}
}

// BenchmarkKick is what a notification of a queue costs the guest and this program: a write that becomes a signal of an eventfd, and the exit that
// lets the guest go on.
func BenchmarkKick(b *testing.B) {
	g := newTiny(b, openKVM(b), []byte{
		0xfa, 0xb8, 0x00, 0xf0, 0x8e, 0xd8, // cli; mov ax, f000h; mov ds, ax
		0x66, 0xc7, 0x06, 0x50, 0xff, 7, 0, 0, 0, // l: mov dword [ff50h], 7
		0xe6, 0x10, 0xeb, 0xf3, // out 10h, al; jmp l
	})
	kick, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(kick)
	if err := g.vm.SetMemory(0, 0, nil); err != nil {
		b.Fatal(err)
	}
	if err := g.vm.SetMemory(0, 0, g.mem[:0xff000]); err != nil {
		b.Fatal(err)
	}
	if err := g.vm.IOEventFD(kick, 0xfff50, 7); err != nil {
		b.Fatal(err)
	}
	var buf [8]byte
	for b.Loop() {
		step(b, g.cpus[0])
		if _, err := unix.Read(kick, buf[:]); err != nil {
			b.Fatal(err)
		}
	}
}
