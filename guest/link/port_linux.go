package link

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PortName is the name of the virtio-serial port that carries the link.
const PortName = "capsid.link"

// portPoll is how often OpenPort looks again. The kernel tells of a port's name, and of the host's end of it, by no event that can be waited for.
const portPoll = 2 * time.Millisecond

// OpenPort finds the guest's virtio-serial port of that name by sysfs, waits until the host's end is there too, and opens it. /sys and
// /dev must be mounted. Only one process can hold the port open.
func OpenPort(ctx context.Context) (io.ReadWriteCloser, error) {
	return openPort(ctx, "/sys/class/virtio-ports", "/dev")
}

func openPort(ctx context.Context, sys, dev string) (io.ReadWriteCloser, error) {
	tick := time.NewTicker(portPoll)
	defer tick.Stop()
	for {
		if node := findPort(sys); node != "" {
			return openNode(ctx, filepath.Join(dev, node), tick)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("link port %s: not found in %s (is the virtio console device there, and its driver?): %w", PortName, sys, ctx.Err())
		}
	}
}

func findPort(sys string) string {
	names, _ := filepath.Glob(filepath.Join(sys, "*", "name"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(b)) == PortName {
			return filepath.Base(filepath.Dir(name))
		}
	}
	return ""
}

func openNode(ctx context.Context, path string, tick *time.Ticker) (io.ReadWriteCloser, error) {
	// Non-blocking, so that the runtime waits for it by epoll and Close wakes those that wait.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	for err == unix.ENOENT && ctx.Err() == nil { // sysfs is ahead of devtmpfs
		<-tick.C
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("link port %s: %w", PortName, &os.PathError{Op: "open", Path: path, Err: err})
	}
	// Until the host's end is open the driver reads as at the end of a file.
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, err := unix.Poll(p, 0); err == nil && p[0].Revents&unix.POLLHUP == 0 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			unix.Close(fd)
			return nil, fmt.Errorf("link port %s: host's end is not open: %w", PortName, ctx.Err())
		}
	}
	return os.NewFile(uintptr(fd), path), nil
}
