package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// What is read of an ELF file, by the System V ABI. Package debug/elf is not made for hostile files, and reads far more.
const (
	elfHeader     = 64
	programHeader = 56

	machineX86 = 62

	segmentLoad = 1
	segmentNote = 4

	maxSegments = 64
	maxNotes    = 64 << 10 // Linux has some hundred bytes

	// The note that names the address to enter at (include/xen/interface/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY).
	noteOwner = "Xen\x00"
	noteEntry = 18
)

// segment is a part of the file that belongs into memory; what it has there beyond the file's bytes is zero.
type segment struct {
	memory Range
	offset int64
	size   uint64 // in the file
}

// program is what an ELF file says of itself.
type program struct {
	segments []segment
	entry    uint64 // of the PVH note
}

func readELF(file *io.SectionReader) (*program, error) {
	h := make([]byte, elfHeader)
	if _, err := file.ReadAt(h, 0); err != nil {
		return nil, fmt.Errorf("%w: ELF header: %w", ErrFormat, err)
	}
	u16, u32, u64 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if string(h[:6]) != "\x7fELF\x02\x01" || u16(h[18:]) != machineX86 {
		return nil, fmt.Errorf("%w: an ELF file, but not of x86-64", ErrFormat)
	}
	count := int(u16(h[56:]))
	if u16(h[54:]) != programHeader || count > maxSegments {
		return nil, fmt.Errorf("%w: %d program headers of %d bytes", ErrFormat, count, u16(h[54:]))
	}
	headers, err := part(file, u64(h[32:]), uint64(count)*programHeader)
	if err != nil {
		return nil, fmt.Errorf("program headers: %w", err)
	}
	p := &program{}
	for ; len(headers) > 0; headers = headers[programHeader:] {
		offset, size := u64(headers[8:]), u64(headers[32:])
		switch u32(headers) {
		case segmentLoad:
			s := segment{Range{u64(headers[24:]), u64(headers[40:])}, int64(offset), size}
			if err := p.add(s, file.Size()); err != nil {
				return nil, err
			}
		case segmentNote:
			notes, err := part(file, offset, min(size, maxNotes))
			if err != nil {
				return nil, fmt.Errorf("notes: %w", err)
			}
			if entry, ok := findEntry(notes); ok {
				p.entry = entry
			}
		}
	}
	if p.entry == 0 {
		return nil, fmt.Errorf("%w: no PVH note; the kernel was built without CONFIG_PVH", ErrFormat)
	}
	return p, nil
}

func (p *program) add(s segment, fileSize int64) error {
	if s.memory.Size == 0 {
		return nil
	}
	if s.size > s.memory.Size || s.memory.End() < s.memory.Base || !inside(uint64(s.offset), s.size, fileSize) {
		return fmt.Errorf("%w: the segment for %v has %d bytes at %#x of a file of %d", ErrFormat, s.memory, s.size, s.offset, fileSize)
	}
	for _, o := range p.segments {
		if o.memory.overlaps(s.memory) {
			return fmt.Errorf("%w: segments for %v and %v overlap", ErrFormat, o.memory, s.memory)
		}
	}
	p.segments = append(p.segments, s)
	return nil
}

func inside(offset, size uint64, fileSize int64) bool {
	return size <= uint64(fileSize) && offset <= uint64(fileSize)-size
}

// part reads a few bytes of a file; the caller has bounded how many.
func part(file *io.SectionReader, offset, size uint64) ([]byte, error) {
	if !inside(offset, size, file.Size()) {
		return nil, fmt.Errorf("%w: %d bytes at %#x are not in the file", ErrFormat, size, offset)
	}
	b := make([]byte, size)
	if n, err := file.ReadAt(b, int64(offset)); n < len(b) {
		return nil, err
	}
	return b, nil
}

// findEntry looks through notes: three words (length of the name, length of the value, type), then both, each padded to four bytes.
func findEntry(notes []byte) (uint64, bool) {
	u32 := binary.LittleEndian.Uint32
	for len(notes) >= 12 {
		nameSize, valueSize, kind := uint64(u32(notes)), uint64(u32(notes[4:])), u32(notes[8:])
		valueAt := 12 + (nameSize+3)&^3
		next := valueAt + (valueSize+3)&^3
		if valueAt+valueSize > uint64(len(notes)) {
			return 0, false
		}
		if kind == noteEntry && bytes.Equal(notes[12:12+nameSize], []byte(noteOwner)) {
			switch value := notes[valueAt:]; valueSize {
			case 4:
				return uint64(u32(value)), true
			case 8:
				return binary.LittleEndian.Uint64(value), true
			}
		}
		if next > uint64(len(notes)) {
			return 0, false
		}
		notes = notes[next:]
	}
	return 0, false
}
