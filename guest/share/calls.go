package share

import (
	"errors"
	"fmt"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// allowed are the system calls that the process may make. All others fail with EPERM: there are no sockets to make, no
// programs to run, nothing to mount or trace.
func allowed() []string {
	return []string{
		// Files, by descriptor and name.
		"openat", "openat2", "close", "statx", "fstat", "newfstatat", "fstatat", "fstatfs", "lseek", "getdents64",
		"pread64", "pwrite64", "pwritev2", "copy_file_range", "ftruncate", "fallocate", "fsync", "fdatasync",
		"mkdirat", "mknodat", "symlinkat", "linkat", "unlinkat", "renameat2", "readlinkat", "fchmodat", "utimensat",
		"getxattr", "setxattr", "listxattr", "removexattr", "fcntl",
		// Streams. Sockets come from the supervisor; none can be made.
		"read", "write", "readv", "writev", "recvmsg", "shutdown",
		// The Go runtime.
		"epoll_ctl", "epoll_pwait", "epoll_pwait2", "futex", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday", "sched_yield", "sched_getaffinity",
		"getpid", "gettid", "tgkill", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
		"munmap", "madvise", "brk", "mincore", "timer_create", "timer_settime", "timer_delete", "getrandom", "set_robust_list", "rseq",
		"exit", "exit_group",
	}
}

// wallCalls lets seccomp leave those calls, on all threads.
func wallCalls() (string, error) {
	if !seccomp.Supported() {
		return "missing: seccomp is not available on this kernel", nil
	}
	machine, err := arch.GetInfo("")
	if err != nil {
		return "", fmt.Errorf("seccomp: %w", err)
	}
	var names []string
	for _, name := range allowed() {
		if _, known := machine.SyscallNames[name]; known {
			names = append(names, name)
		}
	}
	never := func(call string, argument uint32, bits uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: call, Conditions: seccomp.ArgumentConditions{{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}}}
	}
	err = seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls: []seccomp.SyscallGroup{
				{Action: seccomp.ActionAllow, Names: names, NamesWithCondtions: []seccomp.NameWithConditions{
					// Memory that is written is never run.
					never("mmap", 2, unix.PROT_EXEC),
					never("mprotect", 2, unix.PROT_EXEC),
					// A thread of this process, and no process of its own.
					{Name: "clone", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}}},
				}},
				// Its flags are out of a filter's sight; a C library that hears ENOSYS uses clone.
				{Action: seccomp.Action(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)), Names: []string{"clone3"}},
			},
		},
	})
	if err != nil {
		return "", fmt.Errorf("seccomp: %w", err)
	}
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
		_ = unix.Close(fd)
		return "", errors.New("seccomp: is in force and stops nothing")
	}
	return fmt.Sprintf("seccomp: %d system calls of a file server, no others", len(names)+3), nil
}
