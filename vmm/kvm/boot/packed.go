package boot

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// The header of CONFIG_EFI_ZBOOT (Linux's drivers/firmware/efi/libstub/zboot-header.S): where the payload is, its size, how it is packed.
	zbootOffset  = 8
	zbootSize    = 12
	zbootPacking = 24
	zbootHeader  = 56

	// maxWindow is the largest window of zstd that Linux itself takes (lib/decompress_unzstd.c).
	maxWindow = 128 << 20
)

// openImage reads an arm64 kernel as it is when unpacked.
func openImage(file *io.SectionReader) (io.ReadCloser, error) {
	kind, err := Kind(file)
	if err != nil {
		return nil, err
	}
	switch kind {
	case Image:
		return io.NopCloser(io.NewSectionReader(file, 0, file.Size())), nil
	case GzipImage:
		return unpacked(io.NewSectionReader(file, 0, file.Size()), "gzip")
	case ZBoot:
		h, err := part(file, 0, zbootHeader)
		if err != nil {
			return nil, fmt.Errorf("zboot header: %w", err)
		}
		offset, size := uint64(binary.LittleEndian.Uint32(h[zbootOffset:])), uint64(binary.LittleEndian.Uint32(h[zbootSize:]))
		if !inside(offset, size, file.Size()) {
			return nil, fmt.Errorf("%w: a payload of %d bytes at %#x of a file of %d", ErrFormat, size, offset, file.Size())
		}
		packing, _, _ := bytes.Cut(h[zbootPacking:], []byte{0})
		return unpacked(io.NewSectionReader(file, int64(offset), int64(size)), string(packing))
	}
	return nil, fmt.Errorf("%w: %v is for another processor", ErrFormat, kind)
}

func unpacked(r io.Reader, packing string) (io.ReadCloser, error) {
	switch packing {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return z, nil
	case "zstd", "zstd22":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("%w: packed by %q; gzip and zstd are known", ErrFormat, packing)
}
