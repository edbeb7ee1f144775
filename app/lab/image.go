//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"capsid/guest/image"
)

// kernelModules is what the lab's init loads: its disks and their file systems, KVM, and loop devices for tests that want one.
func kernelModules() []string {
	return []string{"virtio_pci", "virtio_console", "virtio_blk", "erofs", "overlay", "isofs", "loop", "kvm", "kvm_amd"}
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
func cachedModules(ctx context.Context, img *image.Image) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "capsid", "lab")
	file := filepath.Join(dir, modulesKey(img)+".cpio")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, ".modules-")
	if err != nil {
		return "", err
	}
	err = errors.Join(img.WriteModules(ctx, f, "", kernelModules()...), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("modules: %w", err), os.Remove(f.Name()))
	}
	return file, nil
}

func modulesKey(img *image.Image) string {
	h := sha256.New()
	fmt.Fprintln(h, img.Manifest.Kernel, img.Manifest.Files["vmlinuz"].SHA256, kernelModules())
	return hex.EncodeToString(h.Sum(nil))[:32]
}
