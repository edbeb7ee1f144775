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

// portPoll is how often Open looks again. The kernel tells of a port's name, and of the host's end of it, by no event that can be waited for.
const portPoll = 2 * time.Millisecond

const (
	portsPath   = "/sys/class/virtio-ports"
	devicesPath = "/dev"
)

// Open is how a guest finds its link: the virtio-serial port of that name, once the host's end is there too, or a vsock, whichever the machine has. /sys and
// /dev must be mounted. Only one process can hold the port open.
func Open(ctx context.Context) (Link, error) {
	return open(ctx, portsPath, devicesPath)
}

func open(ctx context.Context, sys, dev string) (Link, error) {
	tick := time.NewTicker(portPoll)
	defer tick.Stop()
	for {
		if node := findPort(sys); node != "" {
			port, err := openNode(ctx, filepath.Join(dev, node), tick)
			if err != nil {
				return nil, err
			}
			return NewMux(port, Guest), nil
		}
		if vsockThere(filepath.Join(dev, "vsock")) {
			return newVsock(), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("link: neither a virtio-serial port %s nor a vsock (are the device and its driver there?): %w", PortName, ctx.Err())
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
