//go:build linux

package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const moduleList = "/etc/capsid/modules"

// loadModules loads what the initramfs lists, in its order. One that fails is told and does not stop the others: whether
// it was needed shows at what needs it, whose error says more.
func loadModules(log func(string, ...any)) error {
	raw, err := os.ReadFile(moduleList)
	if errors.Is(err, os.ErrNotExist) {
		return nil // everything is built in
	}
	if err != nil {
		return err
	}
	for _, path := range strings.Fields(string(raw)) {
		if err := loadModule(path); err != nil && !errors.Is(err, unix.EEXIST) {
			log("module %s: %v", path, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}
