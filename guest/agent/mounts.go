//go:build linux

package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	rootDisk     = "/dev/vda" // EROFS, read-only
	writableDisk = "/dev/vdb" // ext4
	newRoot      = "/new"
	// writableAt is where the writable disk itself is seen after the start; only root looks into it.
	writableAt = "/run/capsid/disk"
)

type mount struct {
	kind, at string
	flags    uintptr
	data     string
}

const quietFS = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// kernelMounts are made in the initramfs, and move along into the root.
func kernelMounts() []mount {
	return []mount{
		{"proc", "/proc", quietFS, ""},
		{"sysfs", "/sys", quietFS, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,gid=5,ptmxmode=666"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"cgroup2", "/sys/fs/cgroup", quietFS, ""},
	}
}

func makeMounts(list []mount) error {
	for _, m := range list {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// deviceLinks are what programs expect in /dev and no driver makes; bash's <(…) needs the first.
func deviceLinks() error {
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, "/dev/"+name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// mountRoot lays the writable disk over the root disk at newRoot.
func mountRoot() error {
	const lower = "/lower"
	for _, d := range []string{lower, newRoot, writableAt} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod("/run/capsid", 0o700); err != nil {
		return err
	}
	if err := unix.Mount(rootDisk, lower, "erofs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount %s, the image's root: %w", rootDisk, err)
	}
	if err := unix.Mount(writableDisk, writableAt, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s, the session's disk: %w", writableDisk, err)
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.MkdirAll(writableAt+"/"+d, 0o755); err != nil {
			return err
		}
	}
	options := "lowerdir=" + lower + ",upperdir=" + writableAt + "/upper,workdir=" + writableAt + "/work"
	if err := unix.Mount("overlay", newRoot, "overlay", unix.MS_NOATIME, options); err != nil {
		return fmt.Errorf("mount the overlay root: %w", err)
	}
	return nil
}

// switchRoot makes newRoot the root. The initramfs stays behind it, with this program's file.
func switchRoot() error {
	for _, d := range []string{"/proc", "/sys", "/dev", "/run"} {
		if err := os.MkdirAll(newRoot+d, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(d, newRoot+d, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", d, err)
		}
	}
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := os.MkdirAll("/tmp", 0o1777); err != nil {
		return err
	}
	return makeMounts([]mount{{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"}})
}
