package soft

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// bzImage packs as the kernel's build does: setup sectors, then the payload with its unpacked size behind it.
func bzImage(pack func([]byte) []byte, elf []byte) []byte {
	payload := binary.LittleEndian.AppendUint32(pack(elf), uint32(len(elf)))
	b := make([]byte, 3*512)
	b[setupSectors] = 2
	copy(b[headerMagic:], "HdrS\x0c\x02")             // and the version of the protocol
	binary.LittleEndian.PutUint32(b[0x22c:], 1<<31-1) // initrd_addr_max
	binary.LittleEndian.PutUint32(b[payloadOffset:], 16)
	binary.LittleEndian.PutUint32(b[payloadLength:], uint32(len(payload)))
	return append(append(b, make([]byte, 16)...), payload...)
}

func packZstd(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func packGzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func TestUnpack(t *testing.T) {
	elf := append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel "), 10_000)...)
	broken := bzImage(packZstd, elf)
	broken[len(broken)-12] ^= 0xff
	tests := []struct {
		name  string
		image []byte
		want  error // errPacked, or another
	}{
		{"zstd", bzImage(packZstd, elf), nil},
		{"gzip", bzImage(packGzip, elf), nil},
		{"unknown packing", bzImage(bytes.Clone, append([]byte("LZ4"), elf...)), errPacked},
		{"not a kernel", bytes.Repeat([]byte("x"), 5000), errPacked},
		{"short", []byte("x"), errPacked},
		{"no ELF inside", bzImage(packZstd, []byte("a text")), errPacked},
		{"flipped byte", broken, zstd.ErrCRCMismatch},
	}
	for _, test := range tests {
		var got bytes.Buffer
		err := unpack(&got, bytes.NewReader(test.image))
		if test.want == nil && (err != nil || !bytes.Equal(got.Bytes(), elf)) {
			t.Errorf("%s: %d bytes, %v", test.name, got.Len(), err)
		}
		if test.want != nil && (err == nil || errors.Is(test.want, errPacked) != errors.Is(err, errPacked)) {
			t.Errorf("%s: err %v, want %v", test.name, err, test.want)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(bzImage(packZstd, []byte("\x7fELF kernel")))
	f.Add(bzImage(packGzip, []byte("\x7fELF kernel")))
	f.Fuzz(func(t *testing.T, b []byte) { unpack(io.Discard, bytes.NewReader(b)) })
}

func TestOpenKernel(t *testing.T) {
	dir := t.TempDir()
	for name, image := range map[string][]byte{"packed": bzImage(packZstd, []byte("\x7fELF kernel")), "plain": []byte("\x7fELF kernel")} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		boot := t.TempDir()
		f, err := openKernel(path, boot)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// As QEMU opens it.
		b, err := os.ReadFile(procFile(int(f.Fd())))
		if err != nil || string(b) != "\x7fELF kernel" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if left, _ := os.ReadDir(boot); len(left) != 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}
