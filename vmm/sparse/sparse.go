// Package sparse reads and writes files with holes, in pages: no smaller hole is made by any file system that this runs on.
package sparse

import (
	"bytes"
	"context"
	"os"
)

// Page is the size of a page, in bytes.
const Page = 4096

// Extent is a part of a file, in bytes.
type Extent struct{ Start, End int64 }

// Add appends an extent that begins no earlier than the last one of list; where it touches that, it becomes a part of it.
func Add(list []Extent, e Extent) []Extent {
	if n := len(list); n > 0 && list[n-1].End >= e.Start {
		list[n-1].End = max(list[n-1].End, e.End)
		return list
	}
	if e.Start >= e.End {
		return list
	}
	return append(list, e)
}

// Copy copies what is no hole in a file of size bytes to the same places of another. Pages of zeros are written only if zeros is set: where nothing lies below, a hole
// says the same.
func Copy(ctx context.Context, to, from *os.File, size int64, zeros bool) error {
	extents, err := Extents(from, size)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for _, e := range extents {
		for at := e.Start; at < e.End; at += int64(len(buf)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(int64(len(buf)), e.End-at)]
			if _, err := from.ReadAt(b, at); err != nil {
				return err
			}
			if err := Write(to, b, at, zeros); err != nil {
				return err
			}
		}
	}
	return nil
}

// Write writes p at an offset that is a multiple of Page, but leaves out pages of zeros unless zeros is set.
func Write(f *os.File, p []byte, off int64, zeros bool) error {
	for i := 0; i < len(p); {
		end := i
		for end < len(p) && (zeros || !isZero(p[end:min(end+Page, len(p))])) {
			end += Page
		}
		if end == i {
			i += Page
			continue
		}
		end = min(end, len(p))
		if _, err := f.WriteAt(p[i:end], off+int64(i)); err != nil {
			return err
		}
		i = end
	}
	return nil
}

var zeroPage [Page]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeroPage[:len(p)]) }
