//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// programs are those of Capsid, and what it calls that the image has not: where they are there.
func programs(env []string) []string {
	var list []string
	if bin, ok := variable(env, "CAPSID_BIN"); ok {
		list = append(list, filepath.Join(bin, "capsid"), filepath.Join(bin, "capsid-agent"))
	}
	list = append(list, "/usr/sbin/mkfs.ext4")
	return slices.DeleteFunc(list, func(path string) bool {
		_, err := os.Stat(path)
		return err != nil
	})
}

// writeInitrd writes the outer initramfs: the modules' archive, then ours.
func writeInitrd(to string, t target, p parts, s spec, o options) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := os.Open(p.modules)
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err := io.Copy(f, m); err != nil { // it ends at a multiple of 512
		return err
	}
	a := newArchive(f)
	if err := fill(a, t, s, o); err != nil {
		return err
	}
	return errors.Join(a.close(), f.Close())
}

func fill(a *archive, t target, s spec, o options) error {
	self, err := t.init()
	if err != nil {
		return err
	}
	if err := a.file("/init", self); err != nil {
		return err
	}
	if err := a.json(specFile, s); err != nil {
		return err
	}
	dir, err := inside(s.Dir)
	if err != nil {
		return err
	}
	if err := a.folder(dir); err != nil {
		return err
	}
	with := o.with
	if !t.foreign() {
		with = append(programs(s.Env), with...)
	}
	for _, path := range with {
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if err := take(a, path); err != nil {
			return err
		}
	}
	// A path may also be one that only the lab has.
	if _, err := os.Stat(s.Command[0]); err == nil && filepath.IsAbs(s.Command[0]) && !o.shell {
		if err := take(a, s.Command[0]); err != nil {
			return err
		}
	}
	return packageFiles(a, s.Dir)
}

// packageFiles adds what tests read of their package: its files, and testdata. A folder that holds no Go files is no package: -with takes it.
func packageFiles(a *archive, dir string) error {
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(sources) == 0 {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() && e.Name() != "testdata" {
			continue
		}
		if err := takePlain(a, path); err != nil {
			return err
		}
	}
	return nil
}

// newSpec is what the lab is told of this process and its options.
func newSpec(o options, t target, p parts) (spec, error) {
	dir, err := os.Getwd()
	if err != nil {
		return spec{}, err
	}
	s := spec{Command: slices.Clone(o.command), Dir: dir, Image: p.name, Root: p.root != "", NoKVM: t.noKVM, OneOutput: sameFile(1, 2)}
	// What is a path here is one there. A bare name is for the lab's own PATH.
	if strings.Contains(s.Command[0], "/") {
		if s.Command[0], err = filepath.Abs(s.Command[0]); err != nil {
			return spec{}, err
		}
	}
	if s.Env, err = environment(o); err != nil {
		return spec{}, err
	}
	if o.shell {
		s.Terminal = true
		if s.Columns, s.Rows, err = term.GetSize(0); err != nil {
			return spec{}, errors.New("-shell needs a terminal")
		}
		s.Env = append(s.Env, "TERM="+os.Getenv("TERM"))
	}
	return s, nil
}

func environment(o options) ([]string, error) {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8",
		"XDG_DATA_HOME=" + dataHome, "XDG_STATE_HOME=/lab/state", "XDG_CACHE_HOME=/lab/cache", "XDG_CONFIG_HOME=/lab/config", "XDG_RUNTIME_DIR=/run/user/0",
	}
	if _, ok := os.LookupEnv("CAPSID_BIN"); !ok {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		env = append(env, "CAPSID_BIN="+filepath.Dir(self))
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "CAPSID_") || slices.Contains(o.env, name) {
			env = append(env, v)
		}
	}
	for _, v := range o.env {
		if strings.Contains(v, "=") {
			env = append(env, v)
		}
	}
	return env, nil
}

// variable is the last value of a name, which is the one that counts.
func variable(env []string, name string) (string, bool) {
	for _, v := range slices.Backward(env) {
		if n, value, _ := strings.Cut(v, "="); n == name {
			return value, true
		}
	}
	return "", false
}

func sameFile(a, b int) bool {
	var sa, sb unix.Stat_t
	return unix.Fstat(a, &sa) == nil && unix.Fstat(b, &sb) == nil && sa.Dev == sb.Dev && sa.Ino == sb.Ino && sa.Rdev == sb.Rdev
}
