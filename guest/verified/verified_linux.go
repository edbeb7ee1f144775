package verified

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settled is how old a file's last change must be before its identity stands for its content: the kernel's time stamps are that coarse at most.
const settled = 2 * time.Second

// Once calls verify, which reads the files, unless they were verified before and are by device, inode, size and times the same as then. record is where that is kept, a file
// in a folder of the person's own; it holds for one run of the system, so that each boot of the computer verifies anew.
func Once(record string, paths []string, by Time, verify func() error) error {
	before, old := identity(paths, by)
	if before != "" {
		if kept, err := os.ReadFile(record); err == nil && string(kept) == before {
			return nil
		}
	}
	if err := verify(); err != nil {
		return err
	}
	if after, _ := identity(paths, by); before != "" && after == before && old {
		write(record, before)
	}
	return nil
}

// Mark records files as verified that the caller has just written and nobody else knows of.
func Mark(record string, paths []string, by Time) {
	if id, _ := identity(paths, by); id != "" {
		write(record, id)
	}
}

// write keeps an identity. Without the record the next start takes its time, no more.
func write(record, id string) {
	scratch := fmt.Sprintf("%s.%d", record, os.Getpid())
	if os.WriteFile(scratch, []byte(id), 0o600) == nil && os.Rename(scratch, record) != nil {
		os.Remove(scratch)
	}
}

// identity is what tells files from others, empty if it cannot be had, and whether all have been as they are for a while.
func identity(paths []string, by Time) (id string, old bool) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false
	}
	var b strings.Builder
	b.Write(boot)
	old = true
	for _, path := range slices.Sorted(slices.Values(paths)) {
		info, err := os.Lstat(path)
		if err != nil {
			return "", false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.Mode().IsRegular() {
			return "", false
		}
		fmt.Fprintf(&b, "%q %d %d %d %d.%09d", path, st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
		if by == Change {
			fmt.Fprintf(&b, " %d.%09d", st.Ctim.Sec, st.Ctim.Nsec)
		}
		b.WriteByte('\n')
		old = old && time.Since(time.Unix(st.Ctim.Sec, st.Ctim.Nsec)) > settled
	}
	return b.String(), old
}
