package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

func digestOf(t *testing.T, path string, form File) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	form.Size = info.Size()
	sum, err := digest(context.Background(), f, form, nil)
	must(t, err)
	return sum
}

// plainDigest is the definition, for bytes whose holes are given.
func plainDigest(data []byte, domain string, hole func(page int) bool) string {
	h := sha256.New()
	h.Write([]byte(domain))
	binary.Write(h, binary.BigEndian, uint64(len(data)))
	for i := 0; i < len(data); i += pageSize {
		var page [pageSize]byte
		copy(page[:], data[i:])
		if !hole(i / pageSize) {
			binary.Write(h, binary.BigEndian, uint64(i))
			h.Write(page[:])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestDigestIsAsDefined(t *testing.T) {
	// Across the buffer's end, and with half a page at the end.
	const size = 3<<20 + 2*pageSize + 100
	pages := map[int64]byte{0: 1, 3: 0, 255: 2, 256: 3, 500: 0, 768: 0, 770: 4}
	path := filepath.Join(t.TempDir(), "f")
	sparseFile(t, path, size, pages)
	data, err := os.ReadFile(path)
	must(t, err)
	zero := func(p int) bool { return len(bytes.Trim(data[p*pageSize:min((p+1)*pageSize, size)], "\x00")) == 0 }
	hole := func(p int) bool { _, ok := pages[int64(p)]; return !ok }
	if got, want := digestOf(t, path, File{Sparse: true}), plainDigest(data, "capsid sparse file 1\n", zero); got != want {
		t.Errorf("sparse: %s, want %s", got, want)
	}
	if got, want := digestOf(t, path, File{Sparse: true, Layer: true}), plainDigest(data, "capsid disk layer 1\n", hole); got != want {
		t.Errorf("layer: %s, want %s", got, want)
	}
	sum := sha256.Sum256(data)
	if got := digestOf(t, path, File{}); got != hex.EncodeToString(sum[:]) {
		t.Errorf("whole: %s", got)
	}
}

func TestDigestTellsFilesApart(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	for _, c := range []struct {
		name          string
		a, b          map[int64]byte
		sizeB         int64
		sparse, layer bool // whether it differs
	}{
		{"the same", map[int64]byte{1: 1}, map[int64]byte{1: 1}, size, false, false},
		{"zeros for a hole", map[int64]byte{1: 1}, map[int64]byte{1: 1, 2: 0}, size, false, true},
		{"zeros for a hole at the end", map[int64]byte{1: 1}, map[int64]byte{1: 1, 255: 0}, size, false, true},
		{"other bytes", map[int64]byte{1: 1}, map[int64]byte{1: 2}, size, true, true},
		{"another place", map[int64]byte{1: 1}, map[int64]byte{2: 1}, size, true, true},
		{"one more", map[int64]byte{1: 1}, map[int64]byte{1: 1, 2: 1}, size, true, true},
		{"longer by a hole", map[int64]byte{1: 1}, map[int64]byte{1: 1}, size + 1, true, true},
		{"empty", nil, nil, size, false, false},
	} {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		sparseFile(t, a, size, c.a)
		sparseFile(t, b, c.sizeB, c.b)
		for form, want := range map[File]bool{{Sparse: true}: c.sparse, {Sparse: true, Layer: true}: c.layer} {
			if got := digestOf(t, a, form) != digestOf(t, b, form); got != want {
				t.Errorf("%s: %+v differs: %v, want %v", c.name, form, got, want)
			}
		}
	}
}

// BenchmarkDigest reads 64 MiB of data in a file of 4 GiB: in one piece, and as the worst case with a hole after each page.
func BenchmarkDigest(b *testing.B) {
	for name, stride := range map[string]int64{"whole": 1, "scattered": 7} {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "ram")
			pages := map[int64]byte{}
			for i := range int64(64 << 20 / pageSize) {
				pages[i*stride] = 1
			}
			sparseFile(b, path, 4<<30, pages)
			f, err := os.Open(path)
			must(b, err)
			defer f.Close()
			b.SetBytes(64 << 20)
			for b.Loop() {
				if _, err := digest(context.Background(), f, File{Size: 4 << 30, Sparse: true}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
