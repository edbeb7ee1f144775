package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// baseWith writes a base as a build leaves it in the cache.
func baseWith(t *testing.T, cache, name string, files map[string]string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "base")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".tar.zst"), packZstd(b.Bytes()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWriteModules(t *testing.T) {
	const release, dir = "6.12.1", "capsid-kernel/usr/lib/modules/6.12.1/"
	sum := sha256.Sum256([]byte("kernel"))
	img := &Image{Manifest: Manifest{Kernel: release, Files: map[string]File{packedFile: {Size: 6, SHA256: hex.EncodeToString(sum[:])}}}}
	cache := t.TempDir()
	base := func(kernel string) map[string]string {
		return map[string]string{
			"capsid-kernel/boot/vmlinuz-" + release: kernel,
			dir + "modules.dep":                     "kernel/kvm/kvm-amd.ko: kernel/kvm/kvm.ko\nkernel/kvm/kvm.ko:\n",
			dir + "modules.builtin":                 "kernel/ext4.ko\n",
			dir + "kernel/kvm/kvm-amd.ko":           "\x7fELFamd of " + kernel,
			dir + "kernel/kvm/kvm.ko":               "\x7fELFkvm of " + kernel,
			"usr/bin/true":                          "",
		}
	}
	var out bytes.Buffer
	if err := img.WriteModules(t.Context(), &out, cache, "kvm_amd"); !errors.Is(err, ErrNoModules) || !strings.Contains(err.Error(), "--refresh") {
		t.Errorf("empty cache: %v", err)
	}
	baseWith(t, cache, "0", map[string]string{"capsid-kernel/boot/vmlinuz-6.1.1": "kernel"})
	baseWith(t, cache, "1", base("another build"))
	if err := img.WriteModules(t.Context(), &out, cache, "kvm_amd"); !errors.Is(err, ErrNoModules) {
		t.Errorf("bases of other kernels: %v", err)
	}
	baseWith(t, cache, "2", base("kernel"))
	if err := img.WriteModules(t.Context(), &out, cache, "kvm_intel"); err == nil || errors.Is(err, ErrNoModules) {
		t.Errorf("a module that the kernel has not: %v", err)
	}
	out.Reset()
	if err := img.WriteModules(t.Context(), &out, cache, "ext4", "kvm_amd"); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := cpio.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(b)
	}
	for name, want := range map[string]string{
		"lib/modules/kvm.ko":     "\x7fELFkvm of kernel",
		"lib/modules/kvm_amd.ko": "\x7fELFamd of kernel",
		moduleListPath[1:]:       "/lib/modules/kvm.ko\n/lib/modules/kvm_amd.ko\n",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}
