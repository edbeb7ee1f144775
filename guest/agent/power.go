//go:build linux

package agent

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	termTime = 5 * time.Second // for programs to end by themselves
	killTime = 2 * time.Second
)

// shutDown ends all programs, writes the disk and switches the machine off. It does not return.
func (m *machine) shutDown() {
	m.off.Do(func() {
		m.log("powering off")
		_ = m.group.Thaw() // a frozen program heeds no signal but SIGKILL
		// An interactive shell ignores SIGTERM, and a stopped program all but SIGKILL until it is continued.
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGCONT} {
			_ = syscall.Kill(-1, s)
		}
		if !m.procs.Idle(termTime) {
			_ = syscall.Kill(-1, syscall.SIGKILL)
			m.procs.Idle(killTime)
		}
		for _, at := range m.unmount {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
		unix.Sync()
		_ = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		_ = unix.Mount("", writableAt, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		unix.Sync()
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
			m.log("power off: %v", err)
		}
	})
	select {}
}

// fail ends a start that cannot go on. The machine restarts, which nothing else of ours asks for: the host, which lets no machine restart,
// takes it for a crash and shows the console's last lines.
func (m *machine) fail(err error) {
	m.log("the machine cannot start: %v", err)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}
