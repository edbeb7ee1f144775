//go:build linux

package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"capsid/guest/agent/reap"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// program is a process to start for someone.
type program struct {
	who     account
	path    string // found in PATH when empty
	argv    []string
	dir     string // the home folder when empty
	env     []string
	missing int // set by start: 127 or 126, when the program cannot be run
}

// errNotRun is a program that could not be started; program.missing has the status that a shell would give.
var errNotRun = errors.New("cannot run")

// start starts p with files as its 0, 1, 2, in a session of its own; with tty the first of them is its terminal.
func (p *program) start(r *reap.Reaper, files []*os.File, tty bool) (*reap.Process, error) {
	dir := p.dir
	if dir == "" {
		dir = p.who.home
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			dir = "/"
		}
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		p.missing = 126
		return nil, fmt.Errorf("%w in %s: no such folder", errNotRun, dir)
	}
	path := p.path
	if path == "" {
		path, p.missing = lookPath(p.argv[0], dir, p.env)
		switch p.missing {
		case 127:
			return nil, fmt.Errorf("%w %s: command not found", errNotRun, p.argv[0])
		case 126:
			return nil, fmt.Errorf("%w %s: permission denied", errNotRun, p.argv[0])
		}
	}
	c := reap.Command{
		Path: path, Args: p.argv, Env: append(p.env[:len(p.env):len(p.env)], "PWD="+dir), Dir: dir, Files: files, Limits: childLimits,
		Attr: &syscall.SysProcAttr{Setsid: true, Setctty: tty, Credential: p.who.credential()},
	}
	if onShare(dir) || onShare(path) {
		detour(&c)
	}
	proc, err := r.Start(c)
	if errors.Is(err, syscall.ENOEXEC) {
		// A script with no first line that names its interpreter: execvp gives it to the shell.
		c.Path, c.Args = "/bin/sh", append([]string{"sh", path}, p.argv[1:]...)
		proc, err = r.Start(c)
	}
	if err != nil {
		p.missing = 126
		return nil, fmt.Errorf("%w: %w", errNotRun, err)
	}
	return proc, nil
}

// onShare reports whether name is in a folder of the host.
func onShare(name string) bool {
	var st unix.Statfs_t
	return unix.Statfs(name, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}

// detour lets a shell of the machine's own go to the folder and start the program. Between fork and exec the Go runtime keeps a
// processor and waits for the child; were the child to wait meanwhile for a share, whose messages this very process carries, neither might ever go on.
func detour(c *reap.Command) {
	c.Args = append([]string{"sh", "-c", `cd -- "$0" && unset OLDPWD && exec "$@"`, c.Dir, c.Path}, c.Args[1:]...)
	c.Path, c.Dir = "/bin/sh", "/"
}

// openTerminal makes a pseudo-terminal whose far end belongs to who.
func openTerminal(who account, cols, rows uint32) (near, far *os.File, err error) {
	near, far, err = pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("terminal: %w", err)
	}
	setSize(near, cols, rows)
	if os.Geteuid() == 0 {
		_ = far.Chown(int(who.uid), -1)
	}
	// IUTF8 lets the line discipline erase a whole character. Everything else is as the kernel has it.
	if raw, err := far.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
			if err == nil {
				t.Iflag |= unix.IUTF8
				_ = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
			}
		})
	}
	return near, far, nil
}

// setSize sets a terminal's size within what programs can be expected to bear.
func setSize(near *os.File, cols, rows uint32) {
	if cols == 0 || rows == 0 {
		cols, rows = 80, 24
	}
	_ = pty.Setsize(near, &pty.Winsize{Cols: uint16(min(cols, 2000)), Rows: uint16(min(rows, 2000))})
}
