package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A distribution's kernel unpacks itself, which takes an emulated processor longer than the whole rest of the kernel's start, and any machine some
// tenths of a second. So it is done once, when the image is built, and machines enter what is inside: on amd64 the ELF file, by its PVH note; on arm64
// the Image.
const (
	// A bzImage, by Linux's Documentation/arch/x86/boot.rst.
	setupSectors  = 0x1f1
	setupMagic    = 0x202 // "HdrS"
	payloadOffset = 0x248 // from the end of the setup sectors on
	payloadLength = 0x24c
	setupSize     = 0x268

	// An EFI program of CONFIG_EFI_ZBOOT, by Linux's drivers/firmware/efi/libstub/zboot-header.S: offset and length are at 8 and 12.
	zbootMagic = "MZ\x00\x00zimg"

	// imageMagic is where an arm64 Image has its magic number (Documentation/arch/arm64/booting.rst).
	imageMagic = 56

	// maxKernel bounds what a kernel may unpack to, in bytes; Debian's is 57 MB.
	maxKernel = 512 << 20
	// maxWindow is the largest window of zstd that Linux itself takes (lib/decompress_unzstd.c).
	maxWindow = 128 << 20
)

// errPacked: a kernel that is not packed, or in another way than those of Debian and Ubuntu.
var errPacked = errors.New("kernel is not packed in a known way")

// makeKernel makes kernelFile in dir of the packedFile there. One that is packed in an unknown way is taken as it is: it can unpack itself.
func makeKernel(dir string) error {
	packed, unpacked := filepath.Join(dir, packedFile), filepath.Join(dir, kernelFile)
	src, err := os.Open(packed)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(unpacked, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = errors.Join(unpackKernel(dst, src), dst.Close())
	if errors.Is(err, errPacked) {
		if err := os.Remove(unpacked); err != nil {
			return err
		}
		return linkOrCopy(packed, unpacked)
	}
	return err
}

// unpackKernel writes the kernel in src to dst: of a bzImage the ELF file, of a packed arm64 kernel the Image.
func unpackKernel(dst io.Writer, src io.ReaderAt) error {
	payload, err := findPayload(src)
	if err != nil {
		return err
	}
	r, err := unpacker(payload)
	if err != nil {
		return err
	}
	defer r.Close()
	head := make([]byte, imageMagic+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	if string(head[:4]) != "\x7fELF" && string(head[imageMagic:]) != "ARM\x64" {
		return errPacked
	}
	n, err := io.Copy(dst, io.LimitReader(io.MultiReader(bytes.NewReader(head), r), maxKernel))
	if err == nil && n == maxKernel {
		err = fmt.Errorf("it unpacks to %d bytes or more", maxKernel)
	}
	return err
}

// findPayload is the packed part of a kernel.
func findPayload(src io.ReaderAt) (*io.SectionReader, error) {
	b := make([]byte, setupSize)
	if _, err := src.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	switch {
	case string(b[setupMagic:setupMagic+4]) == "HdrS":
		sectors := int64(b[setupSectors])
		if sectors == 0 {
			sectors = 4
		}
		// Its last four bytes are the unpacked size.
		return io.NewSectionReader(src, (sectors+1)*512+u32(payloadOffset), max(u32(payloadLength)-4, 0)), nil
	case string(b[:len(zbootMagic)]) == zbootMagic:
		return io.NewSectionReader(src, u32(8), u32(12)), nil
	case isGzip(b):
		return io.NewSectionReader(src, 0, maxKernel), nil
	}
	return nil, errPacked
}

func isGzip(b []byte) bool { return b[0] == 0x1f && b[1] == 0x8b }

func unpacker(payload *io.SectionReader) (io.ReadCloser, error) {
	magic := make([]byte, 4)
	if _, err := payload.ReadAt(magic, 0); errors.Is(err, io.EOF) {
		return nil, errPacked
	} else if err != nil {
		return nil, err
	}
	switch {
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(payload, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case isGzip(magic):
		z, err := gzip.NewReader(payload)
		if err != nil {
			return nil, err
		}
		return z, nil
	}
	return nil, errPacked
}
