package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"capsid/app/session"
)

// diskSize is what a session may write at most. The file is sparse: it takes what is written.
const diskSize = 32 << 30

// makeDisk makes the machine's writable disk: a sparse file with an empty ext4 in it.
func makeDisk(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fullDisk(err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(path)
		}
	}()
	if err := f.Truncate(diskSize); err != nil {
		return fullDisk(err)
	}
	mkfs, err := lookMkfs()
	if err != nil {
		return err
	}
	if err := format(ctx, mkfs, path); err != nil {
		return err
	}
	// What mkfs wrote may still be refused by a disk that allocates late.
	return fullDisk(f.Sync())
}

// prezeroed says that the file is new and reads as zeros: neither mkfs nor, later, the guest's kernel need to write half a gigabyte
// of zeros into its holes. mke2fs has it since 1.47; before that the guest does it in the background.
const prezeroed = "assume_storage_prezeroed=1,"

func format(ctx context.Context, mkfs, path string) error {
	text, err := runMkfs(ctx, mkfs, prezeroed, path)
	if err != nil && strings.Contains(text, "Bad option") {
		text, err = runMkfs(ctx, mkfs, "lazy_itable_init=1,", path)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case strings.Contains(text, "No space left"):
		return fullDisk(unix.ENOSPC)
	}
	return fmt.Errorf("mkfs.ext4: %w: %s", err, text)
}

func runMkfs(ctx context.Context, mkfs, options, path string) (said string, err error) {
	cmd := exec.CommandContext(ctx, mkfs, "-q", "-F", "-L", "capsid", "-m", "0", "-E", options+"lazy_journal_init=1,nodiscard", path)
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	return strings.Join(strings.Fields(string(out)), " "), err
}

// lookMkfs finds mkfs.ext4, which distributions keep out of an ordinary user's PATH.
func lookMkfs() (string, error) {
	if path, err := exec.LookPath("mkfs.ext4"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &session.Error{Message: "mkfs.ext4 is missing", Hint: "sudo apt-get install e2fsprogs"}
}

func fullDisk(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &session.Error{Message: "the disk is full", Err: err, Hint: "make room: capsid ps shows old sessions, capsid rm removes them"}
	}
	return err
}
