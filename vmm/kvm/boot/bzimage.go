package boot

import (
	"encoding/binary"
	"fmt"
)

// The setup header and the zero page (Documentation/arch/x86/boot.rst and zero-page.rst). Offsets into the file are those into the page.
const (
	setupHeader   = 0x1f1
	bootFlag      = 0x1fe
	setupJump     = 0x201 // from its own end, to the end of the header
	setupMagic    = 0x202
	setupVersion  = 0x206
	loaderType    = 0x210
	loadFlags     = 0x211
	ramdiskImage  = 0x218
	ramdiskSize   = 0x21c
	cmdlinePtr    = 0x228
	initrdMax     = 0x22c
	xloadFlags    = 0x236
	cmdlineSize   = 0x238
	prefAddress   = 0x258
	initSize      = 0x260
	setupEnd      = 0x290 // the header may grow up to here
	rsdpAddress   = 0x70
	e820Count     = 0x1e8
	e820Table     = 0x2d0
	zeroPageSize  = 4096
	sectorSize    = 512
	entry64       = 0x200 // into the protected-mode kernel
	leastVersion  = 0x20c // the first with xloadFlags
	loadedHigh    = 1 << 0
	kernel64      = 1 << 0
	unknownLoader = 0xff

	// identityEnd is what the page tables map: all that the kernel may have been loaded to, and what it is told of.
	identityEnd = 4 << 30
)

// bzImage loads the protected-mode part of a bzImage to where it would rather be. The kernel unpacks itself there, into initSize bytes.
func (l *loader) bzImage() (State, error) {
	setup, err := part(l.Kernel, 0, setupEnd)
	if err != nil {
		return State{}, fmt.Errorf("setup header: %w", err)
	}
	u16, u32, u64 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if v := u16(setup[setupVersion:]); v < leastVersion || setup[loadFlags]&loadedHigh == 0 || u16(setup[xloadFlags:])&kernel64 == 0 {
		return State{}, fmt.Errorf("%w: a bzImage (boot protocol %d.%02d) without a 64-bit entry", ErrFormat, v>>8, v&0xff)
	}
	sectors := int64(setup[setupHeader])
	if sectors == 0 {
		sectors = 4
	}
	offset := (sectors + 1) * sectorSize
	size := l.Kernel.Size() - offset
	if size <= entry64 {
		return State{}, fmt.Errorf("%w: a bzImage of %d bytes, %d of them setup", ErrFormat, l.Kernel.Size(), offset)
	}
	kernel := Range{u64(setup[prefAddress:]), max(uint64(u32(setup[initSize:])), uint64(size))}
	if !l.layout.free(kernel) || kernel.End() > identityEnd {
		return State{}, fmt.Errorf("%w: the kernel is for %v, where no free RAM is", ErrMemory, kernel)
	}
	if err := l.read(Range{kernel.Base, uint64(size)}, l.Kernel, offset); err != nil {
		return State{}, fmt.Errorf("load kernel: %w", err)
	}
	initrd, err := l.loadInitrd(kernel.End(), min(l.RAM[0].End(), uint64(u32(setup[initrdMax:]))+1))
	if err != nil {
		return State{}, err
	}
	if err := l.writeCmdline(min(maxCmdline, int(u32(setup[cmdlineSize:])))); err != nil {
		return State{}, err
	}
	if err := l.write(zeroPageAt, l.zeroPage(setup, initrd)); err != nil {
		return State{}, err
	}
	if err := l.write(pageTablesAt, identityMap(pageTablesAt)); err != nil {
		return State{}, err
	}
	s, err := l.flatState(true)
	s.CR0 |= cr0PG
	s.CR3, s.CR4, s.EFER = pageTablesAt, cr4PAE, eferLME|eferLMA
	s.RIP, s.RSI = kernel.Base+entry64, zeroPageAt
	return s, err
}

func (l *loader) zeroPage(setup []byte, initrd Range) []byte {
	b := make([]byte, zeroPageSize)
	end := min(setupJump+1+int(setup[setupJump]), setupEnd)
	copy(b[setupHeader:], setup[setupHeader:end])
	b[loaderType] = unknownLoader
	u32, u64 := binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	u32(b[ramdiskImage:], uint32(initrd.Base))
	u32(b[ramdiskSize:], uint32(initrd.Size))
	u32(b[cmdlinePtr:], cmdlineAt)
	u64(b[rsdpAddress:], l.RSDP)
	b[e820Count] = byte(len(l.layout.entries))
	for i, e := range l.layout.entries {
		to := b[e820Table+20*i:]
		u64(to, e.Base)
		u64(to[8:], e.Size)
		u32(to[16:], e.kind)
	}
	return b
}

// identityMap is a page table tree, to be at address at, that maps the first 4 GiB to themselves in pages of 2 MiB (Intel SDM volume 3, §4.5).
func identityMap(at uint64) []byte {
	const (
		present, writable, large = 1 << 0, 1 << 1, 1 << 7
		largeSize                = 2 << 20
		directories              = identityEnd / (512 * largeSize)
	)
	b := make([]byte, (2+directories)*pageSize)
	put := func(table, index int, v uint64) {
		binary.LittleEndian.PutUint64(b[table*pageSize+8*index:], v)
	}
	put(0, 0, at+pageSize|present|writable)
	for d := range directories {
		put(1, d, at+uint64(2+d)*pageSize|present|writable)
		for i := range 512 {
			put(2+d, i, uint64(d*512+i)*largeSize|present|writable|large)
		}
	}
	return b
}
