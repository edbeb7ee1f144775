// Package boot puts a kernel, its initramfs and what it is told about the machine into a guest's memory, and says with which registers the first
// processor has to begin. It knows nothing of KVM.
//
// On x86-64 a kernel is entered in one of two ways:
//
//   - an ELF file (vmlinux) by its PVH note, in 32-bit protected mode: nothing is left to unpack (Xen's docs/misc/pvh.pandoc; Linux's
//     include/xen/interface/hvm/start_info.h, arch/x86/platform/pvh/head.S);
//   - a bzImage by the 64-bit boot protocol, in long mode: it unpacks itself (Linux's Documentation/arch/x86/boot.rst).
//
// On arm64 it is an Image (Documentation/arch/arm64/booting.rst), plain or packed.
//
// All addresses are guest-physical, all sizes bytes. The memory is expected to be fresh: what is not written here reads as zero. No processor may run
// while it is written. The files may be hostile: nothing is read or written but what lies inside of them and of free RAM, and no more than either holds.
package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

var (
	// ErrFormat: the kernel is of no known kind, of another processor, or damaged.
	ErrFormat = errors.New("kernel format")
	// ErrMemory: kernel, initramfs or map do not fit into the machine's memory.
	ErrMemory = errors.New("boot memory")
	// ErrCmdline: the command line is too long or has a zero in it.
	ErrCmdline = errors.New("kernel command line")
)

// Memory is the guest's RAM. Slice is the n bytes at gpa, and fails when they are not all of one RAM range.
type Memory interface {
	Slice(gpa, n uint64) ([]byte, error)
}

// Range is a part of the guest's memory.
type Range struct{ Base, Size uint64 }

// End is the first address behind it.
func (r Range) End() uint64 { return r.Base + r.Size }

func (r Range) String() string { return fmt.Sprintf("%#x–%#x", r.Base, r.End()) }

func (r Range) overlaps(o Range) bool { return r.Base < o.End() && o.Base < r.End() }

func (r Range) contains(o Range) bool { return r.Base <= o.Base && o.End() <= r.End() }

// Config says what to boot and what to tell it.
type Config struct {
	Kernel   *io.SectionReader
	Initrd   *io.SectionReader // nil: there is none
	RAM      []Range           // by address, whole pages; on x86-64 the first begins at 0
	Reserved []Range           // whole pages in RAM that the kernel is to leave alone; on x86-64 beyond the BIOS area

	// On x86-64 alone; a device tree has the like.
	Cmdline string
	RSDP    uint64 // where the ACPI tables begin; the caller writes them
}

// File is what Config wants of an open file.
func File(f *os.File) (*io.SectionReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file", f.Name())
	}
	return io.NewSectionReader(f, 0, info.Size()), nil
}

// Format is what kind of file a kernel is.
type Format int

// The formats.
const (
	ELF       Format = iota + 1 // vmlinux
	BzImage                     // x86
	Image                       // arm64, plain
	GzipImage                   // arm64, packed by gzip
	ZBoot                       // arm64, an EFI program that unpacks itself
)

func (f Format) String() string {
	return map[Format]string{ELF: "ELF", BzImage: "bzImage", Image: "arm64 Image", GzipImage: "gzip", ZBoot: "EFI zboot"}[f]
}

// Kind looks at the first bytes of a kernel.
func Kind(kernel io.ReaderAt) (Format, error) {
	b := make([]byte, setupMagic+4)
	if _, err := kernel.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read kernel: %w", err)
	}
	has := func(magic string, at int) bool { return bytes.HasPrefix(b[at:], []byte(magic)) }
	switch {
	case has("\x7fELF", 0):
		return ELF, nil
	case has("\x1f\x8b", 0):
		return GzipImage, nil
	case has("MZ\x00\x00zimg", 0):
		return ZBoot, nil
	case has("ARM\x64", imageMagic):
		return Image, nil
	case has("\x55\xaa", bootFlag) && has("HdrS", setupMagic):
		return BzImage, nil
	}
	return 0, fmt.Errorf("%w: neither ELF nor bzImage nor arm64 Image", ErrFormat)
}

// Load boots on x86-64: a vmlinux or a bzImage.
func Load(mem Memory, c Config) (State, error) {
	layout, err := newPCLayout(c.RAM, c.Reserved)
	if err != nil {
		return State{}, err
	}
	kind, err := Kind(c.Kernel)
	if err != nil {
		return State{}, err
	}
	l := loader{Config: c, mem: mem, layout: layout}
	switch kind {
	case ELF:
		return l.pvh()
	case BzImage:
		return l.bzImage()
	}
	return State{}, fmt.Errorf("%w: %v is for another processor", ErrFormat, kind)
}

type loader struct {
	Config
	mem    Memory
	layout *layout
}

// read fills memory from a file, without a copy in between.
func (l *loader) read(to Range, from *io.SectionReader, offset int64) error {
	b, err := l.mem.Slice(to.Base, to.Size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	if n, err := from.ReadAt(b, offset); n < len(b) {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

func (l *loader) write(at uint64, b []byte) error {
	to, err := l.mem.Slice(at, uint64(len(b)))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	copy(to, b)
	return nil
}

// maxCmdline is COMMAND_LINE_SIZE less the zero behind it (arch/x86/include/asm/setup.h; arm64 has the same).
const maxCmdline = 2047

func (l *loader) writeCmdline(limit int) error {
	if len(l.Cmdline) > limit {
		return fmt.Errorf("%w: %d bytes; this kernel takes %d", ErrCmdline, len(l.Cmdline), limit)
	}
	if bytes.IndexByte([]byte(l.Cmdline), 0) >= 0 {
		return fmt.Errorf("%w: it has a zero in it", ErrCmdline)
	}
	return l.write(cmdlineAt, append([]byte(l.Cmdline), 0))
}

// loadInitrd puts the initramfs as high as it goes in RAM between floor and limit. Without one it returns an empty range.
func (l *loader) loadInitrd(floor, limit uint64) (Range, error) {
	if l.Initrd == nil || l.Initrd.Size() == 0 {
		return Range{}, nil
	}
	r, err := l.layout.highest(uint64(l.Initrd.Size()), floor, limit)
	if err != nil {
		return Range{}, fmt.Errorf("initramfs: %w", err)
	}
	if err := l.read(r, l.Initrd, 0); err != nil {
		return Range{}, fmt.Errorf("initramfs: %w", err)
	}
	return r, nil
}
