//go:build linux

package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const moduleList = "/etc/capsid/modules"

// module is one that is to be loaded. Its file is open, since the initramfs is out of sight once the root has been switched.
type module struct {
	name string
	file *os.File
}

// openModules opens what the initramfs lists. The first list ends with the last module that the root or the link needs; the rest can wait
// until the host has been let in.
func openModules() (first, rest []module, err error) {
	raw, err := os.ReadFile(moduleList)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil // everything is built in
	}
	if err != nil {
		return nil, nil, err
	}
	for _, path := range strings.Fields(string(raw)) {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, err
		}
		m := module{strings.TrimSuffix(filepath.Base(path), ".ko"), f}
		rest = append(rest, m)
		switch m.name {
		case "virtio_blk", "virtio_console", "vmw_vsock_virtio_transport", "erofs", "ext4", "overlay":
			first, rest = append(first, rest...), nil
		}
	}
	return first, rest, nil
}

// loadModules loads modules in their order. One that fails is told and does not stop the others: whether it was needed shows at what needs
// it, whose error says more.
func loadModules(list []module, log func(string, ...any)) {
	for _, m := range list {
		if err := unix.FinitModule(int(m.file.Fd()), parameters(m.name), 0); err != nil && !errors.Is(err, unix.EEXIST) {
			log("module %s: %v", m.name, err)
		}
		_ = m.file.Close()
	}
}

// parameters of a module: the dummy interface is made by name, and not another one by the module itself.
func parameters(name string) string {
	if name == "dummy" {
		return "numdummies=0"
	}
	return ""
}
