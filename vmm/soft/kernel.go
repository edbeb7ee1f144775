package soft

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// A bzImage unpacks itself, which takes an emulated processor longer than the whole rest of the kernel's start; so the host does it, and QEMU enters
// the ELF file inside by its PVH note. The offsets are of Documentation/arch/x86/boot.rst.
const (
	setupSectors  = 0x1f1
	headerMagic   = 0x202 // "HdrS"
	payloadOffset = 0x248
	payloadLength = 0x24c
	setupSize     = 0x268

	// maxKernel bounds what a kernel may unpack to; Debian's is 57 MB.
	maxKernel = 512 << 20
)

// errPacked: a kernel that is not a bzImage, or packed in another way than Debian's and Ubuntu's. QEMU may start it as it is.
var errPacked = errors.New("kernel is not packed in a known way")

// unpack writes the ELF file in the bzImage src to dst.
func unpack(dst io.Writer, src io.ReaderAt) error {
	setup := make([]byte, setupSize)
	if _, err := src.ReadAt(setup, 0); err != nil || string(setup[headerMagic:headerMagic+4]) != "HdrS" {
		return errPacked
	}
	sectors := int64(setup[setupSectors])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int64(binary.LittleEndian.Uint32(setup[payloadOffset:]))
	// Its last four bytes are the unpacked size.
	length := int64(binary.LittleEndian.Uint32(setup[payloadLength:])) - 4
	payload := io.NewSectionReader(src, start, max(length, 0))
	r, err := unpacker(payload)
	if err != nil {
		return err
	}
	defer r.Close()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(r, magic); err != nil {
		return err
	}
	if !bytes.Equal(magic, []byte("\x7fELF")) {
		return errPacked
	}
	if _, err := dst.Write(magic); err != nil {
		return err
	}
	n, err := io.Copy(dst, io.LimitReader(r, maxKernel))
	if err == nil && n == maxKernel {
		err = fmt.Errorf("kernel unpacks to more than %d bytes", maxKernel)
	}
	return err
}

func unpacker(payload *io.SectionReader) (io.ReadCloser, error) {
	magic := make([]byte, 4)
	if _, err := payload.ReadAt(magic, 0); err != nil {
		return nil, errPacked
	}
	switch {
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(payload, zstd.WithDecoderMaxWindow(256<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return gzip.NewReader(payload)
	}
	return nil, errPacked
}

// openKernel opens the kernel as QEMU is to see it. The unpacked one has no name, and goes when QEMU does.
func openKernel(path, dir string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := nameless(dir, func(w io.Writer) error { return unpack(w, src) })
	if errors.Is(err, errPacked) {
		return readable(src, dir)
	}
	src.Close()
	if err != nil {
		return nil, fmt.Errorf("unpack kernel: %w", err)
	}
	return f, nil
}

// readable returns f, or a copy of it when QEMU, which is nobody when this program is root, may not open it. QEMU opens its kernel and initramfs itself.
func readable(f *os.File, dir string) (*os.File, error) {
	info, err := f.Stat()
	if err == nil && (os.Geteuid() != 0 || info.Mode()&0o004 != 0) {
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	return nameless(dir, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// nameless makes a file that anyone may read who was given it, and nobody can find.
func nameless(dir string, fill func(io.Writer) error) (*os.File, error) {
	f, err := os.CreateTemp(dir, "boot-*")
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Remove(f.Name()), f.Chmod(0o444))
	if err == nil {
		err = fill(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
