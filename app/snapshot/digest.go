package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"capsid/vmm/sparse"
)

// pageSize is what data and holes of sparse files are told apart by; no smaller hole is made by any file system that this runs on.
const pageSize = 4096

// The beginnings of what the two digests of sparse files hash.
const (
	sparseDomain = "capsid sparse file 1\n"
	layerDomain  = "capsid disk layer 1\n"
)

// digest returns the digest of a file as its entry has it, with the forms that want says; read is told of bytes that were read.
//
// A whole file's is the SHA-256 of its bytes. That of a sparse file is the SHA-256 of sparseDomain, the size, and, for each page of 4096 bytes that is not all zeros,
// in order, its offset and its bytes; integers have 8 bytes, the most significant first, and a page that the file ends in is filled up with zeros. So it is the same for
// a page of zeros and for a hole, on any file system, and costs as much as there is data. In a layer a hole is something else than zeros: its digest
// begins with layerDomain and has all pages that are no holes.
func digest(ctx context.Context, f *os.File, want File, read func(n int64)) (string, error) {
	h := sha256.New()
	extents := []sparse.Extent{{End: want.Size}}
	if want.Sparse {
		var err error
		if extents, err = sparse.Extents(f, want.Size); err != nil {
			return "", err
		}
		domain := sparseDomain
		if want.Layer {
			domain = layerDomain
		}
		io.WriteString(h, domain)
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(want.Size)))
	}
	buf := make([]byte, 1<<20)
	for _, e := range extents {
		for at := e.Start; at < e.End; at += int64(len(buf)) {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			b := buf[:min(int64(len(buf)), e.End-at)]
			if _, err := f.ReadAt(b, at); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return "", err
			}
			if read != nil {
				read(int64(len(b)))
			}
			if want.Sparse {
				hashPages(h, buf, len(b), at, want.Layer)
			} else {
				h.Write(b)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

var zeroPage [pageSize]byte

// hashPages hashes the pages in the first n bytes of buf, whose length is a multiple of a page's.
func hashPages(h io.Writer, buf []byte, n int, at int64, zeros bool) {
	whole := (n + pageSize - 1) / pageSize * pageSize
	clear(buf[n:whole])
	var offset [8]byte
	for i := 0; i < whole; i += pageSize {
		page := buf[i : i+pageSize]
		if !zeros && bytes.Equal(page, zeroPage[:]) {
			continue
		}
		binary.BigEndian.PutUint64(offset[:], uint64(at)+uint64(i))
		h.Write(offset[:])
		h.Write(page)
	}
}

// measure returns what an entry says of a file but for its digest, and the bytes that the digest costs at most.
func measure(f *os.File, layer bool) (File, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return File{}, 0, err
	}
	if !info.Mode().IsRegular() {
		return File{}, 0, errNotPlain
	}
	size, blocks := info.Size(), inodeOf(info).bytes
	if size > maxSize {
		return File{}, 0, fmt.Errorf("%d bytes are too many", size)
	}
	return File{Size: size, Sparse: layer || blocks < size || size > maxWhole, Layer: layer}, min(size, blocks), nil
}
