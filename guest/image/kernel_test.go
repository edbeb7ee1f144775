package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func elfKernel() []byte { return append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel "), 10_000)...) }

func armKernel() []byte {
	b := bytes.Repeat([]byte("kernel "), 10_000)
	copy(b[imageMagic:], "ARM\x64")
	return b
}

// bzImage packs as the kernel's build does: setup sectors, then the payload with its unpacked size behind it.
func bzImage(pack func([]byte) []byte, kernel []byte) []byte {
	payload := binary.LittleEndian.AppendUint32(pack(kernel), uint32(len(kernel)))
	b := make([]byte, 3*512)
	b[setupSectors] = 2
	copy(b[setupMagic:], "HdrS")
	binary.LittleEndian.PutUint32(b[payloadOffset:], 16)
	binary.LittleEndian.PutUint32(b[payloadLength:], uint32(len(payload)))
	return append(append(b, make([]byte, 16)...), payload...)
}

// zboot packs as drivers/firmware/efi/libstub/Makefile.zboot does: a header, the EFI program, the payload.
func zboot(pack func([]byte) []byte, kernel []byte) []byte {
	payload := pack(kernel)
	b := make([]byte, 4096)
	copy(b, zbootMagic)
	binary.LittleEndian.PutUint32(b[8:], 4096)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	return append(append(b, payload...), make([]byte, 100)...)
}

func packZstd(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

func packGzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func TestUnpackKernel(t *testing.T) {
	broken := bzImage(packZstd, elfKernel())
	broken[len(broken)-12] ^= 0xff
	cut := bzImage(packGzip, elfKernel())
	for _, test := range []struct {
		name string
		file []byte
		want []byte // nil: an error
		err  error  // nil with no want: another than errPacked
	}{
		{"bzImage by zstd", bzImage(packZstd, elfKernel()), elfKernel(), nil},
		{"bzImage by gzip", bzImage(packGzip, elfKernel()), elfKernel(), nil},
		{"zboot by zstd", zboot(packZstd, armKernel()), armKernel(), nil},
		{"zboot by gzip", zboot(packGzip, armKernel()), armKernel(), nil},
		{"arm64 by gzip", packGzip(armKernel()), armKernel(), nil},
		{"unpacked", elfKernel(), nil, errPacked},
		{"unpacked arm64", armKernel(), nil, errPacked},
		{"unknown packing", bzImage(bytes.Clone, append([]byte("LZ4"), elfKernel()...)), nil, errPacked},
		{"not a kernel", bytes.Repeat([]byte("x"), 5000), nil, errPacked},
		{"short", []byte("x"), nil, errPacked},
		{"no kernel inside", bzImage(packZstd, bytes.Repeat([]byte("a text"), 100)), nil, errPacked},
		{"little inside", bzImage(packZstd, []byte("\x7fELF")), nil, nil},
		{"payload behind the end", bzImage(packZstd, elfKernel())[:3*512], nil, errPacked},
		{"payload cut", bzImage(packZstd, elfKernel())[:3*512+40], nil, nil},
		{"flipped byte", broken, nil, nil},
		{"cut short", cut[:len(cut)-20], nil, nil},
	} {
		var got bytes.Buffer
		err := unpackKernel(&got, bytes.NewReader(test.file))
		switch {
		case test.want != nil && (err != nil || !bytes.Equal(got.Bytes(), test.want)):
			t.Errorf("%s: %d bytes, %v", test.name, got.Len(), err)
		case test.want == nil && (err == nil || errors.Is(err, errPacked) != (test.err == errPacked)):
			t.Errorf("%s: err %v, want %v", test.name, err, test.err)
		}
	}
}

func FuzzUnpackKernel(f *testing.F) {
	f.Add(bzImage(packZstd, elfKernel()))
	f.Add(bzImage(packGzip, elfKernel()))
	f.Add(zboot(packZstd, armKernel()))
	f.Add(packGzip(armKernel()))
	f.Fuzz(func(t *testing.T, b []byte) { _ = unpackKernel(io.Discard, bytes.NewReader(b)) })
}

func TestKernelIsUnpacked(t *testing.T) {
	for _, test := range []struct {
		name         string
		packed, want []byte
	}{
		{"packed", bzImage(packZstd, elfKernel()), elfKernel()},
		{"in an unknown way", []byte("LZ4 kernel"), []byte("LZ4 kernel")},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, packedFile), test.packed, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := makeKernel(dir); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, kernelFile)); err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s: %d bytes, %v", test.name, len(got), err)
		}
	}
}

// An image of a build that did not unpack the kernel can be opened and started; the next build makes one of it that has it, without a new root.
func TestOlderImage(t *testing.T) {
	parts := &fakeParts{root: "root"}
	b := newBuilder(t, parts)
	img, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(img.Kernel()); err != nil || !bytes.Equal(got, elfKernel()) {
		t.Fatalf("%s: %d bytes, %v", img.Kernel(), len(got), err)
	}

	m := img.Manifest
	m.Created = m.Created.Add(-time.Hour)
	delete(m.Files, kernelFile)
	older := filepath.Join(b.Root, m.digest())
	if err := errors.Join(os.Remove(filepath.Join(img.Dir, kernelFile)), m.write(filepath.Join(img.Dir, manifestFile)), os.Rename(img.Dir, older)); err != nil {
		t.Fatal(err)
	}
	old, err := Open(older)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Verify(t.Context(), nil); err != nil || filepath.Base(old.Kernel()) != packedFile {
		t.Errorf("kernel %s, %v", old.Kernel(), err)
	}

	again, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != img.Digest || parts.made != 1 || inode(t, again.Root()) != inode(t, old.Root()) {
		t.Errorf("digest %s, root made %d times", again.Digest[:12], parts.made)
	}
	if latest, err := Latest(b.Root); err != nil || latest.Digest != again.Digest || !strings.HasSuffix(latest.Kernel(), "/"+kernelFile) {
		t.Errorf("latest: %v", err)
	}
}
