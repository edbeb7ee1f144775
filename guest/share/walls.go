package share

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// confine puts the walls up, from the outermost privilege inwards, and returns those in force. No capability is kept: the
// process acts as the owner of the folder and needs no more than that. A wall that the kernel does not have is named as missing; one that it has and
// that fails is an error.
func confine(set settings) ([]string, error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return nil, fmt.Errorf("core files: %w", err)
	}
	if err := dropBounding(); err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	if err := become(set.Owners); err != nil {
		return nil, err
	}
	if err := dropCapabilities(); err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	// After the change of user, which undoes both.
	if err := prctl(unix.PR_SET_DUMPABLE, 0); err != nil {
		return nil, fmt.Errorf("not dumpable: %w", err)
	}
	if err := prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)); err != nil {
		return nil, fmt.Errorf("end with the parent: %w", err)
	}
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return nil, fmt.Errorf("no new privileges: %w", err)
	}
	files, err := wallFiles(set.ReadOnly)
	if err != nil {
		return nil, err
	}
	calls, err := wallCalls()
	if err != nil {
		return nil, err
	}
	return []string{
		files,
		calls,
		fmt.Sprintf("user: acts as %d:%d", set.Owners.HostUID, set.Owners.HostGID),
		"capabilities: none",
		"no new privileges",
		"not dumpable, no core files",
		"ends with its supervisor",
	}, nil
}

// prctl sets something for all threads.
func prctl(option int, value uintptr) error {
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, uintptr(option), value, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// dropBounding makes sure that no program file gives a capability back. An ordinary user has none to lose and may not.
func dropBounding() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for c := uintptr(0); ; c++ {
		err := prctl(unix.PR_CAPBSET_DROP, c)
		if err == unix.EINVAL {
			return nil // the last one that the kernel knows was the one before
		}
		if err == unix.EPERM {
			return nil // root without CAP_SETPCAP, in a container: the rest is dropped all the same
		}
		if err != nil {
			return err
		}
	}
}

// become takes the owner's identity, if root is to act as somebody else.
func become(who owners) error {
	uid, gid := int(who.HostUID), int(who.HostGID)
	if os.Geteuid() == uid {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("act as user %d: only root can; share a folder of your own", uid)
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)},
		{unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)},
	} {
		if _, _, errno := psx.Syscall3(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("act as user %d: %w", uid, errno)
		}
	}
	return nil
}

// dropCapabilities empties the effective, permitted, inheritable and ambient sets.
func dropCapabilities() error {
	if err := prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
		return err
	}
	return capset()
}

// closeOthers closes what the parent let through by mistake. The runtime's own are of kinds that nobody can be harmed with.
func closeOthers() error {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= controlFD || fd == int(dir.Fd()) {
			continue
		}
		target, err := os.Readlink(path(fd))
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") || target == "anon_inode:[pidfd]" {
			continue
		}
		_ = unix.Close(fd)
	}
	return nil
}

// raiseFiles takes all descriptors that the user may have, within reason, and returns how many.
func raiseFiles() (int, error) {
	const enough = 65536
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("open files: %w", err)
	}
	limit.Cur = min(limit.Max, enough)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("open files: %w", err)
	}
	return int(limit.Cur), nil
}

// wallFiles lets Landlock leave nothing of the file system but the folder: by its descriptor, so that it does not matter
// what its path leads to. Neither programs nor device nodes are allowed in it.
func wallFiles(readOnly bool) (string, error) {
	version, err := ll.LandlockGetABIVersion()
	switch {
	case err != nil || version < 1:
		return "missing: Landlock is not available on this kernel", nil
	case version < 2:
		return "missing: Landlock of this kernel would forbid renames between folders", nil
	}
	access := landlock.AccessFSSet(ll.AccessFSReadFile | ll.AccessFSReadDir)
	if !readOnly {
		access |= ll.AccessFSWriteFile | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeDir |
			ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeSym | ll.AccessFSRefer
		if version >= 3 {
			access |= ll.AccessFSTruncate
		}
	}
	err = landlock.V9.BestEffort().Restrict(landlock.PathAccess(access, path(folderFD)))
	if err != nil {
		return "", fmt.Errorf("landlock: %w", err)
	}
	if err := proveFiles(); err != nil {
		return "", fmt.Errorf("landlock: %w", err)
	}
	return fmt.Sprintf("Landlock (ABI %d): the folder alone", version), nil
}

// proveFiles tries the wall: a file that everybody may read must be out of reach.
func proveFiles() error {
	fd, err := unix.Open("/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
		return errors.New("is in force and stops nothing")
	}
	if err != unix.EACCES {
		return fmt.Errorf("cannot be tried: %w", err)
	}
	return nil
}
