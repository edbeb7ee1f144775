package vmm

import (
	"fmt"
	"os"
	"strings"
)

const (
	maxCPUs   = 16
	minMemory = 128 << 20 // a Debian kernel with its initramfs takes about 100 MiB
	maxMemory = 1 << 40
	maxDisks  = 8
	maxLayers = 64 // disk.MaxLayers
	// maxCmdline leaves room for a backend's own parameters within COMMAND_LINE_SIZE (arch/x86/include/asm/setup.h: 2048).
	maxCmdline = 1400
)

// Check fills in the defaults and looks at what can be known before a machine is started. Its errors wrap ErrConfig, name the
// field and are for people. Backends call it first.
func (c Config) Check() (Config, error) {
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Memory == 0 {
		c.Memory = 4 << 30
	}
	if c.CPUs < 1 || c.CPUs > maxCPUs {
		return c, fieldError("CPUs", "%d is not between 1 and %d", c.CPUs, maxCPUs)
	}
	if c.Memory < minMemory || c.Memory > maxMemory {
		return c, fieldError("Memory", "%d bytes is not between %d MiB and %d GiB", c.Memory, minMemory>>20, int64(maxMemory)>>30)
	}
	if len(c.Cmdline) > maxCmdline || strings.ContainsAny(c.Cmdline, "\x00\n") {
		return c, fieldError("Cmdline", "longer than %d bytes, or not one line", maxCmdline)
	}
	if strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(c.Name) > 100 {
		return c, fieldError("Name", "%q is longer than 100 bytes or has control characters", c.Name)
	}
	if len(c.Disks) > maxDisks {
		return c, fieldError("Disks", "%d of them; at most %d", len(c.Disks), maxDisks)
	}
	if err := checkFile("Kernel", c.Kernel); err != nil {
		return c, err
	}
	if err := checkFile("Initrd", c.Initrd); err != nil {
		return c, err
	}
	for i, d := range c.Disks {
		if err := d.check(fmt.Sprintf("Disks[%d]", i)); err != nil {
			return c, err
		}
	}
	if c.Dir == "" {
		return c, fieldError("Dir", "is empty")
	}
	if info, err := os.Stat(c.Dir); err != nil {
		return c, fieldError("Dir", "%w", err)
	} else if !info.IsDir() {
		return c, fieldError("Dir", "%s is not a folder", c.Dir)
	}
	return c, nil
}

func (d Disk) check(field string) error {
	if (d.Path == "") == (len(d.Layers) == 0) {
		return fieldError(field, "not just one of path and layers is there")
	}
	if len(d.Layers) > maxLayers {
		return fieldError(field, "%d layers; at most %d", len(d.Layers), maxLayers)
	}
	size := int64(-1)
	for _, path := range d.Files() {
		if err := checkFile(field, path); err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return fieldError(field, "%w", err)
		}
		if size >= 0 && info.Size() != size {
			return fieldError(field, "%s has %d bytes, and the layers below it %d", path, info.Size(), size)
		}
		size = info.Size()
	}
	return nil
}

func checkFile(field, path string) error {
	if path == "" {
		return fieldError(field, "is empty")
	}
	info, err := os.Stat(path)
	if err != nil {
		return fieldError(field, "%w", err)
	}
	if !info.Mode().IsRegular() {
		return fieldError(field, "%s is not a plain file", path)
	}
	return nil
}

func fieldError(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", ErrConfig, field, fmt.Errorf(format, args...))
}
