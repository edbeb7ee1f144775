package boot

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"
)

const mib = 1 << 20

// ram is a guest's memory from 0 on.
type ram []byte

func (m ram) Slice(gpa, n uint64) ([]byte, error) {
	if gpa > uint64(len(m)) || n > uint64(len(m))-gpa {
		return nil, io.ErrUnexpectedEOF
	}
	return m[gpa : gpa+n : gpa+n], nil
}

func (m ram) u16(at uint64) uint16 { return binary.LittleEndian.Uint16(m[at:]) }
func (m ram) u32(at uint64) uint32 { return binary.LittleEndian.Uint32(m[at:]) }
func (m ram) u64(at uint64) uint64 { return binary.LittleEndian.Uint64(m[at:]) }

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// words is a run of little-endian numbers of the sizes that they have here.
func words(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

type load struct {
	paddr, memsz uint64
	data         []byte
}

func note(owner string, kind uint32, value []byte) []byte {
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	head := words(uint32(len(owner)), uint32(len(value)), kind)
	return slices.Concat(head, pad([]byte(owner)), pad(bytes.Clone(value)))
}

// vmlinux makes an ELF file of these segments and notes.
func vmlinux(notes []byte, segments ...load) []byte {
	count := len(segments) + 1
	at := uint64(elfHeader + count*programHeader)
	head := slices.Concat([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9),
		words(uint16(2), uint16(machineX86), uint32(1), uint64(0), uint64(elfHeader), uint64(0), uint32(0),
			uint16(elfHeader), uint16(programHeader), uint16(count), uint16(0), uint16(0), uint16(0)))
	var body []byte
	header := func(kind uint32, paddr, memsz uint64, data []byte) {
		head = append(head, words(kind, uint32(5), at+uint64(len(body)), 0xffffffff80000000+paddr, paddr, uint64(len(data)), memsz, uint64(4096))...)
		body = append(body, data...)
	}
	for _, s := range segments {
		header(segmentLoad, s.paddr, s.memsz, s.data)
	}
	header(segmentNote, 0, uint64(len(notes)), notes)
	return append(head, body...)
}

func xenNote(entry uint64) []byte { return note(noteOwner, noteEntry, words(entry)) }

// smallVmlinux has its entry in the first of two segments; the second has more memory than file.
func smallVmlinux() []byte {
	notes := slices.Concat(note("GNU", 3, make([]byte, 20)), note("Xen\x00", 6, []byte("linux\x00")), xenNote(mib+0x20))
	return vmlinux(notes, load{mib, 0x3000, bytes.Repeat([]byte("text"), 0xc00)}, load{mib + 0x3000, 0x2000, []byte("data")})
}

// smallBzImage has two setup sectors and a kernel that wants 64 KiB at 1 MiB.
func smallBzImage() []byte {
	b := make([]byte, 3*sectorSize)
	put := func(at int, values ...any) { copy(b[at:], words(values...)) }
	b[setupHeader] = 2
	put(bootFlag, uint16(0xaa55), uint8(0xeb), uint8(0x6a), []byte("HdrS"), uint16(0x20f))
	b[loadFlags] = loadedHigh
	put(initrdMax, uint32(0x7fffffff))
	put(xloadFlags, uint16(kernel64), uint32(2047))
	put(prefAddress, uint64(mib), uint32(0x10000))
	return append(b, bytes.Repeat([]byte("code"), 0x400)...)
}

// ordinary is a machine of 4 MiB with a reserved page.
func ordinary(kernel []byte) Config {
	return Config{
		Kernel:   section(kernel),
		Initrd:   section(bytes.Repeat([]byte("initrd!!"), 0x210)), // 1 page and a bit
		Cmdline:  "quiet panic=-1",
		RAM:      []Range{{0, 4 * mib}},
		Reserved: []Range{{3 * mib, 4096}},
		RSDP:     0xe0000,
	}
}

type mapped struct {
	base, size uint64
	kind       uint32
}

// ordinaryMap is its memory map, written down by hand.
func ordinaryMap() []mapped {
	return []mapped{
		{0, 0x9fc00, 1},
		{0x9fc00, 0x60400, 2},
		{0x100000, 0x200000, 1},
		{0x300000, 0x1000, 2},
		{0x301000, 0xff000, 1},
	}
}

// untouched fails when something was written to where the map says that nobody may.
func untouched(t *testing.T, m ram) {
	t.Helper()
	for _, r := range []Range{{0x9fc00, 0x60400}, {3 * mib, 4096}} {
		if n := bytes.Count(m[r.Base:r.End()], []byte{0}); n != int(r.Size) {
			t.Errorf("%d bytes of %v were written", int(r.Size)-n, r)
		}
	}
}
