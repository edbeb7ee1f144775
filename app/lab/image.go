//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"capsid/guest/image"
)

// kernelModules is what the lab's init loads: its disks and their file systems, KVM, loop devices for tests that want one, and what is asked for.
func (t target) kernelModules(more []string) []string {
	return slices.Concat([]string{"virtio_pci", "virtio_console", "virtio_blk", "erofs", "overlay", "isofs", "loop"}, t.modules, more)
}

// parts are the files that the lab starts from.
type parts struct {
	kernel, modules string
	root            string // of the program's root; empty: there is none
	folder          string // what tests take for an image's
	name            string // of that folder in the lab
}

func findParts(ctx context.Context, o options, t target) (parts, error) {
	if t.foreign() {
		return cachedKernel(ctx, t, o.modules)
	}
	img, err := openImage(o.image)
	if err != nil {
		return parts{}, err
	}
	modules, err := cachedModules(ctx, img, t.kernelModules(o.modules))
	return parts{img.Kernel(), modules, img.Root(), img.Dir, img.Digest}, err
}

// cachedKernel is the distribution's kernel for another processor, which is fetched once.
func cachedKernel(ctx context.Context, t target, more []string) (parts, error) {
	dir, err := cacheDir()
	if err != nil {
		return parts{}, err
	}
	modules := t.kernelModules(more)
	name := "kernel-" + t.arch + "-" + keyOf(modules)
	dir = filepath.Join(dir, name)
	p := parts{kernel: filepath.Join(dir, "vmlinux"), modules: filepath.Join(dir, "modules.cpio"), folder: dir, name: name}
	if _, err := os.Stat(dir); err == nil {
		return p, nil
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".kernel-")
	if err != nil {
		return p, err
	}
	err = image.FetchKernel(ctx, t.arch, work, io.Discard, modules...)
	if err == nil {
		err = os.Rename(work, dir)
	}
	if err != nil {
		return p, errors.Join(err, os.RemoveAll(work))
	}
	return p, nil
}

func openImage(dir string) (*image.Image, error) {
	if dir == "" {
		dir = os.Getenv("CAPSID_TEST_IMAGE")
	}
	if dir != "" {
		return image.Open(dir)
	}
	root, err := image.DefaultRoot()
	if err != nil {
		return nil, err
	}
	return image.Latest(root)
}

// cachedModules is the archive of the kernel's modules. It takes seconds to make, so it is kept for the next time.
func cachedModules(ctx context.Context, img *image.Image, names []string) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, keyOf(img.Manifest.Kernel, img.Manifest.Files["vmlinuz"].SHA256, names)+".cpio")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	f, err := os.CreateTemp(dir, ".modules-")
	if err != nil {
		return "", err
	}
	err = errors.Join(img.WriteModules(ctx, f, "", names...), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("modules: %w", err), os.Remove(f.Name()))
	}
	return file, nil
}

func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "capsid", "lab")
	return dir, os.MkdirAll(dir, 0o755)
}

func keyOf(values ...any) string {
	h := sha256.New()
	fmt.Fprintln(h, values...)
	return hex.EncodeToString(h.Sum(nil))[:32]
}
