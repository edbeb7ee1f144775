package vmm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	good := Config{Kernel: file, Initrd: file, Dir: dir}
	good.Disks = []Disk{{Layers: []string{file, file}}, {Path: other, ReadOnly: true}}
	got, err := good.Check()
	if err != nil || got.CPUs != 2 || got.Memory != 4<<30 {
		t.Fatalf("defaults: %+v, %v", got, err)
	}
	tests := []struct {
		want string
		edit func(*Config)
	}{
		{"CPUs", func(c *Config) { c.CPUs = 17 }},
		{"CPUs", func(c *Config) { c.CPUs = -1 }},
		{"Memory", func(c *Config) { c.Memory = 4096 }},
		{"Memory", func(c *Config) { c.Memory = 1 << 50 }},
		{"Cmdline", func(c *Config) { c.Cmdline = "a\nb" }},
		{"Cmdline", func(c *Config) { c.Cmdline = strings.Repeat("x", 2000) }},
		{"Name", func(c *Config) { c.Name = "a\x1bb" }},
		{"Kernel", func(c *Config) { c.Kernel = "" }},
		{"Kernel", func(c *Config) { c.Kernel = dir }},
		{"Initrd", func(c *Config) { c.Initrd = filepath.Join(dir, "none") }},
		{"Disks[1]", func(c *Config) { c.Disks = []Disk{{Path: file}, {Path: dir}} }},
		{"Disks", func(c *Config) { c.Disks = make([]Disk, 9) }},
		{"Disks[0]", func(c *Config) { c.Disks = []Disk{{}} }},
		{"Disks[0]", func(c *Config) { c.Disks = []Disk{{Path: file, Layers: []string{file}}} }},
		{"Disks[0]", func(c *Config) { c.Disks = []Disk{{Layers: []string{file, other}}} }},
		{"Disks[0]", func(c *Config) { c.Disks = []Disk{{Layers: []string{file, ""}}} }},
		{"Disks[0]", func(c *Config) { c.Disks = []Disk{{Layers: make([]string, 65)}} }},
		{"Dir", func(c *Config) { c.Dir = "" }},
		{"Dir", func(c *Config) { c.Dir = file }},
	}
	for _, test := range tests {
		c := good
		test.edit(&c)
		_, err := c.Check()
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), test.want+": ") {
			t.Errorf("%s: %v", test.want, err)
		}
	}
}
