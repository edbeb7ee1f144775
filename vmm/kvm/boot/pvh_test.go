package boot

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
)

func TestPVH(t *testing.T) {
	c := ordinary(smallVmlinux())
	m := make(ram, 4*mib)
	s, err := Load(m, c)
	if err != nil {
		t.Fatal(err)
	}
	untouched(t, m)
	if s.RIP != mib+0x20 || s.RFLAGS != 2 || s.CR0 != 0x11 || s.CR3 != 0 || s.CR4 != 0 || s.EFER != 0 {
		t.Errorf("state %+v", s)
	}
	if s.CS.DB != 1 || s.CS.L != 0 || s.CS.Limit != math.MaxUint32 || s.CS.Type != 0xb || s.Data.Type != 3 || s.TR.Type != 0xb || s.TR.Limit != 0x67 {
		t.Errorf("segments %+v", s)
	}
	gdt := []uint64{0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067, 0}
	for i, want := range gdt {
		if got := m.u64(s.GDT.Base + 8*uint64(i)); got != want {
			t.Errorf("descriptor %d is %#016x, want %#016x", i, got, want)
		}
	}
	if int(s.GDT.Limit) != 8*len(gdt)-1 {
		t.Errorf("the GDT's limit is %d", s.GDT.Limit)
	}
	if !bytes.Equal(m[mib:mib+0x3000], bytes.Repeat([]byte("text"), 0xc00)) || string(m[mib+0x3000:mib+0x3005]) != "data\x00" {
		t.Error("the kernel's segments are not where they belong")
	}

	if m.u32(s.RBX) != 0x336ec578 || m.u32(s.RBX+4) != 1 || m.u32(s.RBX+8) != 0 || m.u32(s.RBX+12) != 1 {
		t.Errorf("start info % x", m[s.RBX:s.RBX+16])
	}
	if rsdp := m.u64(s.RBX + 32); rsdp != 0xe0000 {
		t.Errorf("RSDP %#x", rsdp)
	}
	cmdline := m[m.u64(s.RBX+24):]
	if !bytes.HasPrefix(cmdline, []byte("quiet panic=-1\x00")) {
		t.Errorf("command line %q", cmdline[:20])
	}
	module := m.u64(s.RBX + 16)
	at, size := m.u64(module), m.u64(module+8)
	if at != 4*mib-0x2000 || size != 0x1080 || !bytes.Equal(m[at:at+size], bytes.Repeat([]byte("initrd!!"), 0x210)) {
		t.Errorf("initramfs at %#x, %#x bytes", at, size)
	}
	var entries []mapped
	for i := range uint64(m.u32(s.RBX + 48)) {
		e := m.u64(s.RBX+40) + 24*i
		entries = append(entries, mapped{m.u64(e), m.u64(e + 8), m.u32(e + 16)})
	}
	if !slices.Equal(entries, ordinaryMap()) {
		t.Errorf("memory map %x", entries)
	}
}

func TestPVHWithoutInitrd(t *testing.T) {
	c := ordinary(smallVmlinux())
	c.Initrd = nil
	m := make(ram, 4*mib)
	s, err := Load(m, c)
	if err != nil || m.u32(s.RBX+12) != 0 || m.u64(s.RBX+16) != 0 {
		t.Errorf("%v; start info % x", err, m[s.RBX:s.RBX+24])
	}
}

// Files and machines that do not fit together. None may panic, and each says why.
func TestPVHRefused(t *testing.T) {
	ok := load{mib, 0x1000, []byte("text")}
	changed := func(change func([]byte)) []byte {
		b := smallVmlinux()
		change(b)
		return b
	}
	first := elfHeader // of the program headers
	for _, test := range []struct {
		name   string
		kernel []byte
		want   error
	}{
		{"no file", nil, ErrFormat},
		{"cut in the header", smallVmlinux()[:40], ErrFormat},
		{"cut in the program headers", smallVmlinux()[:100], ErrFormat},
		{"cut in a segment", smallVmlinux()[:0x1000], ErrFormat},
		{"32 bits", changed(func(b []byte) { b[4] = 1 }), ErrFormat},
		{"big-endian", changed(func(b []byte) { b[5] = 2 }), ErrFormat},
		{"arm64", changed(func(b []byte) { b[18] = 183 }), ErrFormat},
		{"program headers far away", changed(func(b []byte) { copy(b[32:], words(uint64(math.MaxUint64-8))) }), ErrFormat},
		{"program headers of another size", changed(func(b []byte) { b[54] = 32 }), ErrFormat},
		{"65,535 program headers", changed(func(b []byte) { b[56], b[57] = 0xff, 0xff }), ErrFormat},
		{"offset wraps", changed(func(b []byte) { copy(b[first+8:], words(uint64(math.MaxUint64))) }), ErrFormat},
		{"address wraps", changed(func(b []byte) { copy(b[first+24:], words(uint64(math.MaxUint64-0x800))) }), ErrFormat},
		{"more in the file than in memory", changed(func(b []byte) { copy(b[first+40:], words(uint64(1))) }), ErrFormat},
		{"no note", vmlinux(nil, ok), ErrFormat},
		{"a note of another owner", vmlinux(note("GNU\x00", noteEntry, words(uint64(mib))), ok), ErrFormat},
		{"a note that is too long", vmlinux(words(uint32(4), uint32(math.MaxUint32), uint32(noteEntry), []byte("Xen\x00")), ok), ErrFormat},
		{"a note of an odd size", vmlinux(note(noteOwner, noteEntry, []byte{1, 2}), ok), ErrFormat},
		{"entry in no segment", vmlinux(xenNote(2*mib), ok), ErrFormat},
		{"entry where only zeros are", vmlinux(xenNote(mib+0x10), ok), ErrFormat},
		{"segments overlap", vmlinux(xenNote(mib), ok, load{mib + 0xfff, 0x1000, nil}), ErrFormat},
		{"segment in the BIOS area", vmlinux(xenNote(mib), ok, load{0xe0000, 0x1000, []byte("RSD PTR ")}), ErrMemory},
		{"segment below it", vmlinux(xenNote(mib), ok, load{0x1000, 0x1000, []byte("x")}), ErrMemory},
		{"segment in the reserved page", vmlinux(xenNote(mib), ok, load{3*mib - 0x1000, 0x1001, nil}), ErrMemory},
		{"segment behind RAM", vmlinux(xenNote(mib), ok, load{4*mib - 0x1000, 0x1001, nil}), ErrMemory},
		{"segment beyond all memory", vmlinux(xenNote(mib), ok, load{1 << 62, 0x1000, []byte("x")}), ErrMemory},
	} {
		m := make(ram, 4*mib)
		if _, err := Load(m, ordinary(test.kernel)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		untouched(t, m)
	}
}

// A value of four bytes and notes in front of it: what other kernels have.
func TestPVHNotes(t *testing.T) {
	notes := slices.Concat(note("", 1, nil), note("Xen\x00", 17, words(uint32(1))), note(noteOwner, noteEntry, words(uint32(mib+8))))
	s, err := Load(make(ram, 4*mib), ordinary(vmlinux(notes, load{mib, 0x1000, make([]byte, 16)})))
	if err != nil || s.RIP != mib+8 {
		t.Errorf("entry %#x, %v", s.RIP, err)
	}
}

func FuzzPVH(f *testing.F) {
	f.Add(smallVmlinux())
	fuzzLoad(f)
}

// fuzzLoad has kernels loaded, and nothing written to where nobody may.
func fuzzLoad(f *testing.F) {
	m := make(ram, 4*mib) // one for all: fresh pages take most of the time
	f.Fuzz(func(t *testing.T, kernel []byte) {
		clear(m)
		s, err := Load(m, ordinary(kernel))
		untouched(t, m)
		if err == nil && (s.RIP < mib || s.RIP >= 4*mib) {
			t.Errorf("enters at %#x", s.RIP)
		}
	})
}
