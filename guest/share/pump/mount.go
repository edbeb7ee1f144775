package pump

import (
	"fmt"
	"os"
	"path/filepath"
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

// Settle waits for the host's first answer and then makes the file system at path fit to be used by the very process that runs its pump. Call it
// while Run goes, and before that process opens a file there.
//
// A file that the Go runtime opens is added to its poller, for which the kernel asks the file system whether the file is ready, and nothing
// that waits in the poller moves on until the answer is there: not the pump, not the link. Once the kernel has heard, to a question asked outside the poller,
// that there is no answer, it asks no more. The same trap is in starting programs: between fork and exec the Go runtime
// holds a processor, so that neither a program's folder nor its file may be on a share when one starts it from that process.
func Settle(path string) error {
	if err := noPoll(path); err != nil {
		return err
	}
	return setReadAhead(path)
}

// pollName is a file that the host shows in the root of every share for this purpose, to whoever asks for it by name.
const pollName = ".go-fuse-epoll-hack"

func noPoll(path string) error {
	fd, err := unix.Open(filepath.Join(path, pollName), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("share: %s: %w", path, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		return fmt.Errorf("share: poll: %w", err)
	}
	return nil
}

// setReadAhead lets the kernel read ahead a whole message of a file that is read in sequence, where its own choice is an eighth of
// one. /sys must be mounted.
func setReadAhead(path string) error {
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
