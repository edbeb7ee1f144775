package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What Linux's Documentation/arch/arm64/booting.rst asks for.
const (
	imageHeader = 64
	textOffset  = 8
	imageSize   = 16
	imageFlags  = 24
	imageMagic  = 56
	bigEndian   = 1 << 0 // of the flags
	imageAlign  = 2 << 20
	maxTree     = 2 << 20
	windowAlign = 1 << 30
	windowSize  = 32 << 30 // that kernel and initramfs are both in
)

// ARM64State is what the first processor begins with, at EL1 with the MMU off and all interrupts masked; registers that are not named are zero.
type ARM64State struct {
	PC, X0 uint64
}

// LoadARM64 boots an Image, plain or packed. tree makes the flattened device tree, of at most 2 MiB, for an initramfs at that place; an empty range
// when there is none.
func LoadARM64(mem Memory, c Config, tree func(initrd Range) ([]byte, error)) (ARM64State, error) {
	var s ARM64State
	layout, err := newLayout(c.RAM, c.Reserved)
	if err != nil {
		return s, err
	}
	if len(c.RAM) == 0 {
		return s, fmt.Errorf("%w: there is no RAM", ErrMemory)
	}
	l := loader{Config: c, mem: mem, layout: layout}
	kernel, err := l.image()
	if err != nil {
		return s, err
	}
	limit := kernel.Base&^(windowAlign-1) + windowSize
	at, err := layout.highest(maxTree, kernel.End(), limit)
	if err != nil {
		return s, fmt.Errorf("device tree: %w", err)
	}
	initrd, err := l.loadInitrd(kernel.End(), at.Base)
	if err != nil {
		return s, err
	}
	blob, err := tree(initrd)
	if err != nil {
		return s, fmt.Errorf("device tree: %w", err)
	}
	if len(blob) > maxTree {
		return s, fmt.Errorf("%w: device tree of %d bytes; at most %d", ErrMemory, len(blob), maxTree)
	}
	return ARM64State{PC: kernel.Base, X0: at.Base}, l.write(at.Base, blob)
}

// image loads the kernel to the lowest place that it may have in the first range of RAM, and says what it takes there.
func (l *loader) image() (Range, error) {
	r, err := openImage(l.Kernel)
	if err != nil {
		return Range{}, err
	}
	defer r.Close()
	head := make([]byte, imageHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return Range{}, fmt.Errorf("%w: Image header: %w", ErrFormat, err)
	}
	u64 := binary.LittleEndian.Uint64
	offset, size := u64(head[textOffset:]), u64(head[imageSize:])
	switch {
	case string(head[imageMagic:imageMagic+4]) != "ARM\x64":
		return Range{}, fmt.Errorf("%w: what is packed is no arm64 Image", ErrFormat)
	case u64(head[imageFlags:])&bigEndian != 0:
		return Range{}, fmt.Errorf("%w: a big-endian kernel", ErrFormat)
	case size < imageHeader || offset >= imageAlign: // Linux before 3.17 says no size
		return Range{}, fmt.Errorf("%w: an Image of %d bytes at %#x", ErrFormat, size, offset)
	}
	base := (l.RAM[0].Base + imageAlign - 1) &^ (imageAlign - 1)
	kernel := Range{base + offset, size}
	if !l.layout.free(kernel) {
		return Range{}, fmt.Errorf("%w: the kernel is for %v, where no free RAM is", ErrMemory, kernel)
	}
	b, err := l.mem.Slice(kernel.Base, kernel.Size)
	if err != nil {
		return Range{}, fmt.Errorf("%w: %w", ErrMemory, err)
	}
	if err := readAll(r, b[copy(b, head):]); err != nil {
		return Range{}, fmt.Errorf("load kernel: %w", err)
	}
	return kernel, nil
}

// readAll reads all that r has into the beginning of b.
func readAll(r io.Reader, b []byte) error {
	for len(b) > 0 {
		n, err := r.Read(b)
		b = b[n:]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("%w: there is more of it than it says", ErrFormat)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}
