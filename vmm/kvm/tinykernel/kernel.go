// Package tinykernel makes kernels of a few instructions, for tests of machines: what they do, any /dev/kvm can run.
package tinykernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// New makes a vmlinux of a few instructions in 32-bit protected mode, entered by its PVH note.
func New(code []byte) []byte {
	const (
		load   = 0x100000
		header = 64 + 2*56
	)
	note := binary.LittleEndian.AppendUint32(nil, 4) // length of the name
	note = binary.LittleEndian.AppendUint32(note, 4) // of the value
	note = binary.LittleEndian.AppendUint32(note, 18)
	note = append(note, "Xen\x00"...)
	note = binary.LittleEndian.AppendUint32(note, load)
	var b bytes.Buffer
	w := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: load, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	w(h)
	w(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 7, Off: header, Vaddr: load, Paddr: load, Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: 1})
	w(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: header + uint64(len(code)), Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4})
	b.Write(code)
	b.Write(note)
	return b.Bytes()
}

// Out writes a byte to a port: mov dx, port; mov al, v; out dx, al.
func Out(port uint16, v byte) []byte {
	return []byte{0x66, 0xba, byte(port), byte(port >> 8), 0xb0, v, 0xee}
}

// Rest is where a kernel goes that waits: cli; l: hlt; jmp l.
func Rest() []byte { return []byte{0xfa, 0xf4, 0xeb, 0xfd} }

// Say writes text to the serial port.
func Say(text string) (code []byte) {
	for _, c := range []byte(text) {
		code = append(code, Out(0x3f8, c)...)
	}
	return code
}
