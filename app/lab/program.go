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

// The host's own loader and libraries are apart from those of the lab's root, which may be of another release. The loader is what a program sees as its
// own file, and some, as QEMU, seek their data beside that: so it lies in a bin, and what would be beside leads to where it is.
const (
	hostDir      = "/lab/host"
	librariesDir = hostDir + "/bin"
)

// inside is where in the archive a path of the host goes.
func inside(path string) (string, error) {
	first, _, _ := strings.Cut(path[1:], "/")
	switch first {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		path = "/usr" + path // a folder in this layer would hide the link of that name in the root
	case "proc", "sys", "dev", "run":
		return "", fmt.Errorf("%s cannot be taken along: the lab has a /%s of its own", path, first)
	}
	return filesDir + path, nil
}

// takePlain adds a file or folder of the host at its own path.
func takePlain(a *archive, path string) error {
	at, err := inside(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return a.tree(at, path)
	}
	return a.file(at, path)
}

// take adds a file or folder, and with a program that is linked dynamically its loader and libraries. At the program's place there is then a script that
// calls it by that loader: so it finds libraries of its own release, and all else finds the lab's.
func take(a *archive, path string) error {
	loader, err := interpreter(path)
	if err != nil {
		return err
	}
	if loader == "" {
		return takePlain(a, path)
	}
	at, err := inside(path)
	if err != nil {
		return err
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
	for _, name := range []string{"lib", "libexec", "share"} {
		if err := a.link(filesDir+filepath.Join(hostDir, name), filepath.Join("/usr", name)); err != nil {
			return err
		}
	}
	own := filepath.Join(hostDir, "programs", path)
	if err := a.file(filesDir+own, path); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' --library-path '%s' --argv0 \"$0\" '%s' \"$@\"\n", filepath.Join(librariesDir, filepath.Base(loader)), librariesDir, own)
	return a.data(at, 0o755, []byte(script))
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
		return "", nil
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
