package pump

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Mount puts a FUSE file system of subtype capsid at path and returns its device, for Run: until Run goes, every access to path waits.
// Permissions are checked by the guest's kernel from the attributes that the host shows; set-user-ID bits and device nodes have no effect in it.
func Mount(path string, readOnly bool) (*os.File, error) {
	// Opened by hand: a device must be registered with the poller after it is mounted, else it never becomes readable.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("share: open /dev/fuse: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=%d", fd, MaxData)
	if err := unix.Mount("capsid", path, "fuse.capsid", flags, options); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("share: mount %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// SetReadAhead lets the kernel read ahead a whole message of a file that is read in sequence, where its own choice is an eighth of
// one. It waits for the first answer of the host, so call it while Run goes. /sys must be mounted.
func SetReadAhead(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("share: %s: %w", path, err)
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	if err := os.WriteFile(name, []byte(strconv.Itoa(MaxData>>10)), 0); err != nil {
		return fmt.Errorf("share: %w", err)
	}
	return nil
}
