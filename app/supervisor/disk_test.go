package supervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/app/session"
)

func TestDiskIsSparse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if err := makeDisk(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Size() != diskSize {
		t.Fatalf("%v, %v", fi, err)
	}
	if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; used > 64<<20 {
		t.Errorf("an empty disk takes %d MiB", used>>20)
	}
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	if err := makeDisk(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("an old disk was overwritten: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "disk.ext4")
	err := makeDisk(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "the disk is full") || session.Hint(err) == "" {
		t.Fatalf("%v (%s)", err, session.Hint(err))
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a disk is left: %v", err)
	}
}

func TestInterruptedDisk(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if err := makeDisk(ctx, path); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a disk is left: %v", err)
	}
}
