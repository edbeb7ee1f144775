package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"capsid/app/session"
)

// desktop opens the window: the program beside this one takes this process's place.
func (c *cli) desktop() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(self), "capsid-desktop")
	if _, err := os.Stat(path); err != nil {
		return &session.Error{Message: "the desktop is not installed: " + path + " is missing", Hint: "build it with make desktop, or use capsid new claude here in the terminal"}
	}
	if !hasDisplay() {
		return &session.Error{Message: "there is no display to open the desktop on", Hint: "use capsid new claude here in the terminal, or set DISPLAY"}
	}
	return unix.Exec(path, []string{path}, os.Environ())
}

func hasDisplay() bool { return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "" }
