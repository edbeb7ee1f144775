//go:build linux

package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// librariesDir holds the host's own loader and libraries, apart from those of the lab's root, which may be of another release.
const librariesDir = "/lab/libraries"

// take adds a file or folder of the host at its own path.
func take(a *archive, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return a.tree(filesDir+path, path)
	}
	return takeProgram(a, path)
}

// takeProgram adds a file, and with a program that is linked dynamically its loader and libraries. At the program's place there is then a script that
// calls it by that loader: so it finds libraries of its own release, and all else finds the lab's.
func takeProgram(a *archive, path string) error {
	loader, err := interpreter(path)
	if err != nil {
		return err
	}
	if loader == "" {
		return a.file(filesDir+path, path)
	}
	libraries, err := librariesOf(path)
	if err != nil {
		return err
	}
	for _, lib := range append(libraries, loader) {
		if err := a.file(filesDir+filepath.Join(librariesDir, filepath.Base(lib)), lib); err != nil {
			return err
		}
	}
	own := filepath.Join("/lab/programs", path)
	if err := a.file(filesDir+own, path); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' --library-path '%s' --argv0 \"$0\" '%s' \"$@\"\n", filepath.Join(librariesDir, filepath.Base(loader)), librariesDir, own)
	return a.data(filesDir+path, 0o755, []byte(script))
}

// interpreter is the loader that an ELF program names; empty for one that needs none, and for what is no ELF file.
func interpreter(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) {
			return "", nil
		}
		return "", nil // shorter than a header
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return "", fmt.Errorf("%s: %w", path, err)
			}
			return strings.TrimRight(string(b), "\x00"), nil
		}
	}
	return "", nil
}

// librariesOf asks the loader itself, which alone knows all rules. ldd(1) runs the program with it in the same way.
func librariesOf(path string) ([]string, error) {
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil, fmt.Errorf("libraries of %s: %w", path, err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		name, at, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue // the loader, or the kernel's own
		}
		if at = strings.Fields(at)[0]; !filepath.IsAbs(at) {
			return nil, fmt.Errorf("%s needs %s, which this host has not", path, name)
		}
		list = append(list, at)
	}
	return list, nil
}

func checkStatic(path string) error {
	loader, err := interpreter(path)
	if err == nil && loader != "" {
		err = errors.New("capsid-lab needs libraries: build it with CGO_ENABLED=0")
	}
	return err
}
