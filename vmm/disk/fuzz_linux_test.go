package disk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whatever files there are: they are refused, or they are a disk that reads as the rule says, takes a write, and is the same when it is opened again.
func FuzzOpen(f *testing.F) {
	// Each layer: its size in sectors, and then pairs of a place in sectors and a length in sectors that are data; 0xff ends it.
	f.Add([]byte{64, 0, 16, 0xff, 64, 8, 8, 0xff}, uint16(5000))
	f.Add([]byte{64, 0, 64, 0xff, 63, 8, 8, 0xff}, uint16(0))
	f.Add([]byte{9, 0xff, 9, 8, 1, 0xff, 9, 0xff}, uint16(4600))
	f.Add([]byte{64, 0, 64, 0xff, 64, 3, 1, 0xff, 64, 5, 1, 0xff}, uint16(100))
	f.Add([]byte{0, 0xff}, uint16(0))
	f.Add(bytes.Repeat([]byte{8, 0xff}, 66), uint16(1))
	f.Fuzz(func(t *testing.T, text []byte, at uint16) {
		dir := t.TempDir()
		var paths []string
		var want []byte
		size, sizes := -1, true
		for len(text) > 0 && len(paths) < MaxLayers+2 {
			n := int(text[0]) * SectorSize
			text = text[1:]
			data := make([]byte, n)
			path := filepath.Join(dir, string(rune('A'+len(paths))))
			file, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := file.Truncate(int64(n)); err != nil {
				t.Fatal(err)
			}
			present := make([]bool, blocksOf(int64(n)))
			for len(text) > 0 && text[0] != 0xff {
				if len(text) < 2 {
					text = nil
					break
				}
				off, length := int(text[0])*SectorSize, int(text[1])*SectorSize
				text = text[2:]
				if off+length > n || length == 0 {
					continue
				}
				p := bytes.Repeat([]byte{byte(len(paths) + 1)}, length)
				if _, err := file.WriteAt(p, int64(off)); err != nil {
					t.Fatal(err)
				}
				copy(data[off:], p)
				for b := off / BlockSize; b*BlockSize < off+length; b++ {
					present[b] = true
				}
			}
			file.Close()
			if len(text) > 0 {
				text = text[1:]
			}
			if size < 0 {
				size, want = n, data
			}
			sizes = sizes && n == size
			for b, has := range present {
				if lo, hi := b*BlockSize, min((b+1)*BlockSize, n); has && n == size {
					copy(want[lo:hi], data[lo:hi])
				}
			}
			paths = append(paths, path)
		}
		s, err := OpenPaths(paths, false)
		if good := sizes && len(paths) > 0 && len(paths) <= MaxLayers; good != (err == nil) || err != nil && !errors.Is(err, ErrLayers) {
			t.Fatalf("%d layers, of one size %v: %v", len(paths), sizes, err)
		}
		if err != nil {
			return
		}
		same(t, "opened", s, want)
		if off := int(at); off < size {
			p := bytes.Repeat([]byte{0xaa}, min(700, size-off))
			copy(want[off:], p)
			if _, err := s.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "written", s, want)
		s.Close()
		s = openPaths(t, paths, true)
		same(t, "reopened", s, want)
		s.Close()
	})
}
