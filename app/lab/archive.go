//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/cavaliergopher/cpio"
)

// archive writes an initramfs ("newc" cpio, Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w    *cpio.Writer
	made map[string]bool // absolute paths
}

func newArchive(w io.Writer) *archive {
	return &archive{w: cpio.NewWriter(w), made: map[string]bool{"/": true}}
}

// folder makes a folder and those above it.
func (a *archive) folder(at string) error {
	if a.made[at] {
		return nil
	}
	if err := a.folder(path.Dir(at)); err != nil {
		return err
	}
	a.made[at] = true
	return a.w.WriteHeader(&cpio.Header{Name: at[1:], Mode: cpio.TypeDir | 0o755, Links: 2})
}

// data adds a file, unless one is there already.
func (a *archive) data(at string, mode fs.FileMode, b []byte) error {
	return a.entry(at, cpio.TypeReg|cpio.FileMode(mode.Perm()), int64(len(b)), func() error {
		_, err := a.w.Write(b)
		return err
	})
}

func (a *archive) link(at, target string) error {
	return a.entry(at, cpio.TypeSymlink|0o777, int64(len(target)), func() error {
		_, err := io.WriteString(a.w, target)
		return err
	})
}

func (a *archive) json(at string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.data(at, 0o644, b)
}

// file adds the host's file from, following links.
func (a *archive) file(at, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a plain file", from)
	}
	return a.entry(at, cpio.TypeReg|cpio.FileMode(info.Mode().Perm()), info.Size(), func() error {
		_, err := io.CopyN(a.w, f, info.Size())
		return err
	})
}

func (a *archive) entry(at string, mode cpio.FileMode, size int64, body func() error) error {
	if a.made[at] {
		return nil
	}
	if err := a.folder(path.Dir(at)); err != nil {
		return err
	}
	a.made[at] = true
	if err := a.w.WriteHeader(&cpio.Header{Name: at[1:], Mode: mode, Size: size, Links: 1}); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if err := body(); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

// tree adds the folder from with all that is in it; links stay links.
func (a *archive) tree(at, from string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		to := path.Join(at, rel)
		switch d.Type() {
		case fs.ModeDir:
			return a.folder(to)
		case fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return a.link(to, target)
		case 0:
			return a.file(to, p)
		}
		return nil // sockets and devices
	})
}

func (a *archive) close() error { return a.w.Close() }
