package boot

import (
	"encoding/binary"
	"fmt"
)

const (
	// struct hvm_start_info, its version with a memory map, and the tables behind it in the same page (include/xen/interface/hvm/start_info.h).
	startMagic   = 0x336ec578
	startVersion = 1
	moduleAt     = startInfoAt + 0x40 // 32 bytes
	memoryMapAt  = startInfoAt + 0x80 // 24 bytes each

	// pvhEnd: the entry is 32-bit code, and Linux keeps the initramfs's address in 32 bits (arch/x86/platform/pvh/enlighten.c).
	pvhEnd = 4 << 30
)

// pvh loads the segments of a vmlinux straight from the file.
func (l *loader) pvh() (State, error) {
	p, err := readELF(l.Kernel)
	if err != nil {
		return State{}, err
	}
	var end uint64
	entered := false
	for _, s := range p.segments {
		if !l.layout.free(s.memory) {
			return State{}, fmt.Errorf("%w: a segment of the kernel is for %v, where no free RAM is", ErrMemory, s.memory)
		}
		loaded := Range{s.memory.Base, s.size}
		if err := l.read(loaded, l.Kernel, s.offset); err != nil {
			return State{}, fmt.Errorf("load kernel: %w", err)
		}
		end = max(end, s.memory.End())
		entered = entered || loaded.contains(Range{p.entry, 1})
	}
	if !entered || p.entry >= pvhEnd {
		return State{}, fmt.Errorf("%w: its entry %#x is in no segment", ErrFormat, p.entry)
	}
	initrd, err := l.loadInitrd(end, min(l.RAM[0].End(), pvhEnd))
	if err != nil {
		return State{}, err
	}
	if err := l.writeCmdline(maxCmdline); err != nil {
		return State{}, err
	}
	if err := l.write(startInfoAt, l.startInfo(initrd)); err != nil {
		return State{}, err
	}
	s, err := l.flatState(false)
	s.RIP, s.RBX = p.entry, startInfoAt
	return s, err
}

func (l *loader) startInfo(initrd Range) []byte {
	b := make([]byte, memoryMapAt-startInfoAt)
	u32, u64 := binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	u32(b, startMagic)
	u32(b[4:], startVersion)
	if initrd.Size > 0 {
		u32(b[12:], 1)
		u64(b[16:], moduleAt)
		u64(b[moduleAt-startInfoAt:], initrd.Base)
		u64(b[moduleAt-startInfoAt+8:], initrd.Size)
	}
	u64(b[24:], cmdlineAt)
	u64(b[32:], l.RSDP)
	u64(b[40:], memoryMapAt)
	u32(b[48:], uint32(len(l.layout.entries)))
	for _, e := range l.layout.entries {
		b = binary.LittleEndian.AppendUint64(b, e.Base)
		b = binary.LittleEndian.AppendUint64(b, e.Size)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.kind)) // and a reserved word
	}
	return b
}
