package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKind(t *testing.T) {
	image := make([]byte, 64)
	copy(image[56:], "ARM\x64")
	for _, test := range []struct {
		name string
		file []byte
		want Format // 0: ErrFormat
	}{
		{"vmlinux", smallVmlinux(), ELF},
		{"bzImage", smallBzImage(), BzImage},
		{"arm64", image, Image},
		{"packed", []byte("\x1f\x8b\x08"), GzipImage},
		{"zboot", []byte("MZ\x00\x00zimg\x00"), ZBoot},
		{"an EFI program", append([]byte("MZ"), make([]byte, 1000)...), 0},
		{"empty", nil, 0},
		{"text", []byte("a text"), 0},
	} {
		got, err := Kind(section(test.file))
		if got != test.want || (err == nil) != (test.want != 0) || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, smallVmlinux(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		ok   bool
	}{{path, true}, {filepath.Dir(path), false}} {
		f, err := os.Open(test.path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := File(f)
		if (err == nil) != test.ok || err == nil && s.Size() != int64(len(smallVmlinux())) {
			t.Errorf("%s: %v", test.path, err)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   error
	}{
		{"ordinary", func(*Config) {}, nil},
		{"two ranges", func(c *Config) { c.RAM = []Range{{0, 4 * mib}, {4 << 30, 1 << 30}} }, nil},
		{"no RAM", func(c *Config) { c.RAM, c.Reserved = nil, nil }, ErrMemory},
		{"RAM not from 0 on", func(c *Config) { c.RAM[0] = Range{mib, 3 * mib} }, ErrMemory},
		{"little RAM", func(c *Config) { c.RAM[0].Size, c.Reserved = mib, nil }, ErrMemory},
		{"half a page", func(c *Config) { c.RAM[0].Size += 2048 }, ErrMemory},
		{"ranges overlap", func(c *Config) { c.RAM = append(c.RAM, Range{2 * mib, 4 * mib}) }, ErrMemory},
		{"range wraps", func(c *Config) { c.RAM = append(c.RAM, Range{1 << 63, 1 << 63}, Range{1 << 62, 4096}) }, ErrMemory},
		{"reserved behind RAM", func(c *Config) { c.Reserved[0].Base = 4 * mib }, ErrMemory},
		{"reserved beside itself", func(c *Config) { c.Reserved = append(c.Reserved, c.Reserved[0]) }, ErrMemory},
		{"reserved in the BIOS area", func(c *Config) { c.Reserved[0].Base = 0xf0000 }, ErrMemory},
		{"nothing reserved at a place", func(c *Config) { c.Reserved[0].Size = 0 }, ErrMemory},
		{"reserved half a page", func(c *Config) { c.Reserved[0].Size = 2048 }, ErrMemory},
		{"too much reserved", func(c *Config) {
			for i := range uint64(64) {
				c.Reserved = append(c.Reserved, Range{2*mib + 8192*i, 4096})
			}
		}, ErrMemory},
		{"big initramfs", func(c *Config) { c.Initrd = section(make([]byte, 3*mib)) }, ErrMemory},
		{"longest command line", func(c *Config) { c.Cmdline = strings.Repeat("a", 2047) }, nil},
		{"longer command line", func(c *Config) { c.Cmdline = strings.Repeat("a", 2048) }, ErrCmdline},
		{"zero in the command line", func(c *Config) { c.Cmdline = "quiet\x00" }, ErrCmdline},
		{"kernel of another processor", func(c *Config) { c.Kernel = section([]byte("MZ\x00\x00zimg")) }, ErrFormat},
	} {
		for _, kernel := range [][]byte{smallVmlinux(), smallBzImage()} {
			c := ordinary(kernel)
			test.change(&c)
			_, err := Load(make(ram, 4*mib), c)
			if test.want == nil && err != nil || !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", test.name, err, test.want)
			}
		}
	}
}

// An initramfs that does not fit above the reserved page goes below it, and one that fits nowhere is refused.
func TestInitrdPlace(t *testing.T) {
	l, err := newPCLayout([]Range{{0, 4 * mib}, {4 << 30, mib}}, []Range{{3 * mib, 4096}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		size, floor, limit, want uint64 // want 0: refused
	}{
		{4096, mib, 4 * mib, 4*mib - 4096},
		{4097, mib, 4 * mib, 4*mib - 8192},
		{mib - 4096, mib, 4 * mib, 3*mib + 4096},
		{mib - 4095, mib, 4 * mib, 2 * mib},
		{2 * mib, mib, 4 * mib, mib},
		{2*mib + 1, mib, 4 * mib, 0},
		{2 * mib, mib + 1, 4 * mib, 0},
		{4096, mib, 2*mib + 17, 2*mib - 4096},
		{4096, 0, mib + 4095, 0},
		{4096, 4*mib - 4095, 4 * mib, 0},
		{4096, 0, 1 << 40, 4<<30 + mib - 4096},
	} {
		r, err := l.highest(test.size, test.floor, test.limit)
		if r.Base != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%+v: %v, %v", test, r, err)
		}
	}
}
