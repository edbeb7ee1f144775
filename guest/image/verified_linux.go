package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// settled is how old a file's last change must be before its identity stands for its content: the kernel's time stamps are that coarse at most.
const settled = 2 * time.Second

// VerifyOnce is Verify, but for an image that was verified before and whose files are, by device, inode, size and times, the same as then. Whoever changes a file changes
// the time of that change (inode(7), ctime), which only the system's clock sets. record is where that is kept, a file in a folder of the person's
// own; it holds for one run of the system, so that each boot of the computer verifies anew.
func (i *Image) VerifyOnce(ctx context.Context, record string, progress func(done, total int64)) error {
	before, old := i.identity()
	if before != "" {
		if kept, err := os.ReadFile(record); err == nil && string(kept) == before {
			return nil
		}
	}
	if err := i.Verify(ctx, progress); err != nil {
		return err
	}
	if after, _ := i.identity(); before != "" && after == before && old {
		// Without the record the next start takes its time, no more.
		scratch := fmt.Sprintf("%s.%d", record, os.Getpid())
		if os.WriteFile(scratch, []byte(before), 0o600) == nil && os.Rename(scratch, record) != nil {
			os.Remove(scratch)
		}
	}
	return nil
}

// identity is what tells the image's files from others, empty if it cannot be had, and whether all have been as they are for a while.
func (i *Image) identity() (id string, old bool) {
	names := []string{manifestFile}
	for name := range i.Manifest.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false
	}
	var b strings.Builder
	b.Write(boot)
	old = true
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(i.Dir, name))
		if err != nil {
			return "", false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.Mode().IsRegular() {
			return "", false
		}
		fmt.Fprintf(&b, "%s %d %d %d %d.%09d %d.%09d\n", name, st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
		old = old && time.Since(time.Unix(st.Ctim.Sec, st.Ctim.Nsec)) > settled
	}
	return b.String(), old
}
