//go:build linux

package agent

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// deviceTime bounds the wait for a disk; emulated machines find theirs within a second.
const deviceTime = 30 * time.Second

// awaitDevices waits until the files of devices are there. ready is a socket that the kernel tells of devices on, opened before the
// drivers were loaded; a message may be lost under load, so it is looked again every quarter of a second.
func awaitDevices(events int, paths ...string) error {
	until := sinceKernel() + deviceTime
	_ = unix.SetsockoptTimeval(events, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 250_000})
	buf := make([]byte, 16<<10)
	for {
		missing := ""
		for _, p := range paths {
			if _, err := os.Stat(p); errors.Is(err, os.ErrNotExist) {
				missing = p
			}
		}
		if missing == "" {
			return nil
		}
		if sinceKernel() > until {
			return fmt.Errorf("no %s after %v: the machine has no such disk, or its driver is not in the initramfs", missing, deviceTime)
		}
		_, _, _ = unix.Recvfrom(events, buf, 0)
	}
}

// deviceEvents opens a socket on which the kernel tells of new devices.
func deviceEvents() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1, fmt.Errorf("device events: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("device events: %w", err)
	}
	return fd, nil
}
