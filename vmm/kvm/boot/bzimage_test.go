package boot

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
)

func TestBzImage(t *testing.T) {
	kernel := smallBzImage()
	m := make(ram, 4*mib)
	s, err := Load(m, ordinary(kernel))
	if err != nil {
		t.Fatal(err)
	}
	untouched(t, m)
	if s.RIP != mib+0x200 || s.RFLAGS != 2 || s.CR0 != 1<<31|0x11 || s.CR4 != 1<<5 || s.EFER != 1<<10|1<<8 {
		t.Errorf("state %+v", s)
	}
	if s.CS.L != 1 || s.CS.DB != 0 || s.CS.Selector != 0x10 || s.Data.Selector != 0x18 {
		t.Errorf("segments %+v", s)
	}
	if d := m.u64(s.GDT.Base + 0x10); d != 0x00af9b000000ffff {
		t.Errorf("the code segment's descriptor is %#016x", d)
	}
	if !bytes.Equal(m[mib:mib+0x1000], kernel[3*512:]) {
		t.Error("the kernel is not where it belongs")
	}

	zero := s.RSI
	if m.u16(zero+0x1fe) != 0xaa55 || string(m[zero+0x202:zero+0x206]) != "HdrS" || m.u64(zero+0x258) != mib || m[zero+0x1ef] != 0 {
		t.Error("the setup header is not in the zero page")
	}
	if m[zero+0x210] != 0xff || m.u64(zero+0x70) != 0xe0000 {
		t.Errorf("loader %#x, RSDP %#x", m[zero+0x210], m.u64(zero+0x70))
	}
	if cmdline := m[m.u32(zero+0x228):]; !bytes.HasPrefix(cmdline, []byte("quiet panic=-1\x00")) {
		t.Errorf("command line %q", cmdline[:20])
	}
	if at, size := m.u32(zero+0x218), m.u32(zero+0x21c); at != 4*mib-0x2000 || size != 0x1080 || string(m[at:at+8]) != "initrd!!" {
		t.Errorf("initramfs at %#x, %#x bytes", at, size)
	}
	var entries []mapped
	for i := range uint64(m[zero+0x1e8]) {
		e := zero + 0x2d0 + 20*i
		entries = append(entries, mapped{m.u64(e), m.u64(e + 8), m.u32(e + 16)})
	}
	if !slices.Equal(entries, ordinaryMap()) {
		t.Errorf("memory map %x", entries)
	}
}

// The tables, walked as a processor does, lead each address below 4 GiB to itself.
func TestIdentityMap(t *testing.T) {
	m := make(ram, 4*mib)
	s, err := Load(m, ordinary(smallBzImage()))
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []uint64{0, 0x7000, mib, 2*mib + 5, 1<<30 - 1, 1 << 30, 3<<30 + 12345, 1<<32 - 1} {
		table := s.CR3
		for _, shift := range []int{39, 30, 21} {
			e := m.u64(table + 8*(address>>shift&511))
			if e&3 != 3 {
				t.Fatalf("%#x: entry %#x at level %d", address, e, shift)
			}
			large := e&(1<<7) != 0
			if large != (shift == 21) {
				t.Fatalf("%#x: entry %#x at level %d", address, e, shift)
			}
			table = e &^ 0xfff
		}
		if got := table + address&(2*mib-1); got != address {
			t.Errorf("%#x leads to %#x", address, got)
		}
	}
	if e := m.u64(s.CR3 + 8); e != 0 {
		t.Errorf("there is something behind 512 GiB: %#x", e)
	}
}

func TestBzImageRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(b []byte) []byte
		want   error
	}{
		{"cut in the header", func(b []byte) []byte { return b[:0x250] }, ErrFormat},
		{"nothing but setup", func(b []byte) []byte { return b[:3*512] }, ErrFormat},
		{"cut before the entry", func(b []byte) []byte { return b[:3*512+0x200] }, ErrFormat},
		{"more setup than file", func(b []byte) []byte { b[setupHeader] = 255; return b }, ErrFormat},
		{"old protocol", func(b []byte) []byte { b[setupVersion] = 0xb; return b }, ErrFormat},
		{"no 64-bit entry", func(b []byte) []byte { b[xloadFlags] = 0; return b }, ErrFormat},
		{"not for high memory", func(b []byte) []byte { b[loadFlags] = 0; return b }, ErrFormat},
		{"address in the BIOS area", func(b []byte) []byte { copy(b[prefAddress:], words(uint64(0xe0000))); return b }, ErrMemory},
		{"address wraps", func(b []byte) []byte { copy(b[prefAddress:], words(uint64(math.MaxUint64-8))); return b }, ErrMemory},
		{"unpacks over the reserved page", func(b []byte) []byte { copy(b[initSize:], words(uint32(3*mib))); return b }, ErrMemory},
		{"initramfs must lie below the kernel", func(b []byte) []byte { copy(b[initrdMax:], words(uint32(mib+0x10000))); return b }, ErrMemory},
		{"short command lines only", func(b []byte) []byte { copy(b[cmdlineSize:], words(uint32(13))); return b }, ErrCmdline},
	} {
		m := make(ram, 4*mib)
		if _, err := Load(m, ordinary(test.change(smallBzImage()))); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		untouched(t, m)
	}
}

func FuzzBzImage(f *testing.F) {
	f.Add(smallBzImage())
	fuzzLoad(f)
}
