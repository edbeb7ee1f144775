package boot

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const armBase = 1 << 30

// highRAM is a guest's memory from armBase on.
type highRAM []byte

func (m highRAM) Slice(gpa, n uint64) ([]byte, error) {
	if gpa < armBase {
		return nil, io.ErrUnexpectedEOF
	}
	return ram(m).Slice(gpa-armBase, n)
}

// smallImage takes 3 MiB, of which the file has some bytes.
func smallImage(offset uint64) []byte {
	b := make([]byte, imageHeader)
	copy(b, "code")
	binary.LittleEndian.PutUint64(b[textOffset:], offset)
	binary.LittleEndian.PutUint64(b[imageSize:], 3*mib)
	binary.LittleEndian.PutUint64(b[imageFlags:], 0xa)
	copy(b[imageMagic:], "ARM\x64")
	return append(b, bytes.Repeat([]byte("instructions"), 1000)...)
}

func packGzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func packZstd(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

func zboot(packing string, payload []byte) []byte {
	b := make([]byte, 512)
	copy(b, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(b[zbootOffset:], 512)
	binary.LittleEndian.PutUint32(b[zbootSize:], uint32(len(payload)))
	copy(b[zbootPacking:], packing)
	return append(append(b, payload...), "and more"...)
}

// ordinaryARM64 is a machine of 16 MiB with a reserved page and an initramfs.
func ordinaryARM64(kernel []byte) Config {
	return Config{
		Kernel:   section(kernel),
		Initrd:   section(bytes.Repeat([]byte("initrd!!"), 0x210)),
		RAM:      []Range{{armBase, 16 * mib}},
		Reserved: []Range{{armBase + 15*mib, 4096}},
	}
}

func TestARM64(t *testing.T) {
	for _, test := range []struct {
		name   string
		file   []byte
		offset uint64
	}{
		{"plain", smallImage(0), 0},
		{"with an offset", smallImage(0x80000), 0x80000},
		{"by gzip", packGzip(smallImage(0)), 0},
		{"zboot by gzip", zboot("gzip", packGzip(smallImage(0))), 0},
		{"zboot by zstd", zboot("zstd22", packZstd(smallImage(0))), 0},
	} {
		m := make(highRAM, 16*mib)
		var initrd Range
		s, err := LoadARM64(m, ordinaryARM64(test.file), func(r Range) ([]byte, error) {
			initrd = r
			return []byte("tree"), nil
		})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if want := armBase + test.offset; s.PC != want || !bytes.Equal(m[test.offset:test.offset+12064], smallImage(test.offset)) {
			t.Errorf("%s: the kernel is at %#x, want %#x", test.name, s.PC, want)
		}
		// 2 MiB below the reserved page are the tree's, and the initramfs has whole pages below them.
		if at := s.X0 - armBase; s.X0 != armBase+13*mib || string(m[at:at+5]) != "tree\x00" {
			t.Errorf("%s: the tree is at %#x", test.name, s.X0)
		}
		if at := initrd.Base - armBase; initrd != (Range{armBase + 13*mib - 0x2000, 0x1080}) || string(m[at:at+8]) != "initrd!!" {
			t.Errorf("%s: the initramfs is at %v", test.name, initrd)
		}
	}
}

func TestARM64WithoutInitrd(t *testing.T) {
	c := ordinaryARM64(smallImage(0))
	c.Initrd = nil
	_, err := LoadARM64(make(highRAM, 16*mib), c, func(r Range) ([]byte, error) {
		if r != (Range{}) {
			t.Errorf("initramfs at %v", r)
		}
		return nil, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// RAM that begins between multiples of 2 MiB, and a kernel that fits exactly.
func TestARM64Places(t *testing.T) {
	c := ordinaryARM64(smallImage(0))
	c.RAM[0] = Range{armBase + 0x1000, 16*mib - 0x1000}
	whole := make([]byte, 3*mib)
	copy(whole, smallImage(0))
	for _, kernel := range [][]byte{smallImage(0), whole} {
		c.Kernel = section(kernel)
		s, err := LoadARM64(make(highRAM, 16*mib), c, func(Range) ([]byte, error) { return nil, nil })
		if err != nil || s.PC != armBase+2*mib {
			t.Errorf("the kernel is at %#x, %v", s.PC, err)
		}
	}
}

func TestARM64Refused(t *testing.T) {
	changed := func(at int, v uint64) []byte {
		b := smallImage(0)
		binary.LittleEndian.PutUint64(b[at:], v)
		return b
	}
	broken := packGzip(smallImage(0))
	broken[len(broken)-6] ^= 1 // the checksum
	failure := errors.New("no tree")
	tree := func(Range) ([]byte, error) { return nil, nil }
	for _, test := range []struct {
		name   string
		change func(*Config)
		file   []byte
		tree   func(Range) ([]byte, error)
		want   error
	}{
		{"cut in the header", nil, smallImage(0)[:60], tree, ErrFormat},
		{"a vmlinux", nil, smallVmlinux(), tree, ErrFormat},
		{"gzip of something else", nil, packGzip(smallVmlinux()), tree, ErrFormat},
		{"gzip of little", nil, packGzip([]byte("x")), tree, ErrFormat},
		{"no gzip", nil, []byte("\x1f\x8b but no gzip"), tree, ErrFormat},
		{"gzip cut short", nil, packGzip(smallImage(0))[:60], tree, io.ErrUnexpectedEOF},
		{"gzip damaged", nil, broken, tree, gzip.ErrChecksum},
		{"zboot by something else", nil, zboot("lzma", nil), tree, ErrFormat},
		{"zboot cut short", nil, zboot("zstd", packZstd(smallImage(0)))[:520], tree, ErrFormat},
		{"zboot header alone", nil, zboot("zstd", nil)[:40], tree, ErrFormat},
		{"big-endian", nil, changed(imageFlags, 1), tree, ErrFormat},
		{"of no size", nil, changed(imageSize, 0), tree, ErrFormat},
		{"more than it says", nil, changed(imageSize, 1000), tree, ErrFormat},
		{"packed, more than it says", nil, packGzip(changed(imageSize, 1000)), tree, ErrFormat},
		{"offset too large", nil, changed(textOffset, 2*mib), tree, ErrFormat},
		{"offset wraps", nil, changed(textOffset, 1<<64-4096), tree, ErrFormat},
		{"larger than memory", nil, changed(imageSize, 16*mib), tree, ErrMemory},
		{"size wraps", nil, changed(imageSize, 1<<64-1), tree, ErrMemory},
		{"no room for the tree", nil, changed(imageSize, 14*mib), tree, ErrMemory},
		{"no room for the initramfs", nil, changed(imageSize, 13*mib), tree, ErrMemory},
		{"large tree", nil, smallImage(0), func(Range) ([]byte, error) { return make([]byte, 2*mib+1), nil }, ErrMemory},
		{"no tree", nil, smallImage(0), func(Range) ([]byte, error) { return nil, failure }, failure},
		{"no RAM", func(c *Config) { c.RAM, c.Reserved = nil, nil }, smallImage(0), tree, ErrMemory},
		{"reserved half a page", func(c *Config) { c.Reserved[0].Size = 100 }, smallImage(0), tree, ErrMemory},
	} {
		c := ordinaryARM64(test.file)
		if test.change != nil {
			test.change(&c)
		}
		m := make(highRAM, 16*mib)
		if _, err := LoadARM64(m, c, test.tree); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if m[15*mib] != 0 {
			t.Errorf("%s: the reserved page was written", test.name)
		}
	}
}

func FuzzARM64(f *testing.F) {
	f.Add(smallImage(0))
	f.Add(packGzip(smallImage(0)))
	f.Add(zboot("gzip", packGzip(smallImage(0))))
	f.Add(zboot("zstd", packZstd(smallImage(0))))
	m := make(highRAM, 8*mib) // one for all: fresh pages take most of the time
	f.Fuzz(func(t *testing.T, kernel []byte) {
		clear(m)
		c := ordinaryARM64(kernel)
		c.RAM[0].Size, c.Reserved[0].Base = 8*mib, armBase+7*mib
		s, err := LoadARM64(m, c, func(Range) ([]byte, error) { return []byte("tree"), nil })
		if bytes.Count(m[7*mib:7*mib+4096], []byte{0}) != 4096 {
			t.Error("the reserved page was written")
		}
		if err == nil && (s.PC < armBase || s.PC >= armBase+2*mib) {
			t.Errorf("enters at %#x", s.PC)
		}
	})
}
