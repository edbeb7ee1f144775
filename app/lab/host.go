//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// host runs the command in the lab and returns its exit status.
func host(ctx context.Context, o options) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := watchParent(cancel); err != nil {
		return 0, err
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() { cancel(fmt.Errorf("ended by a signal: %v", <-ends)) }()

	t, err := chooseTarget(o)
	if err != nil {
		return 0, err
	}
	if o.qemu == "" {
		o.qemu = t.qemu
	}
	qemu, err := exec.LookPath(o.qemu)
	if err != nil {
		return 0, fmt.Errorf("no QEMU: %w: apt install %s", err, t.pkg)
	}
	begun := time.Now()
	work, err := os.MkdirTemp("", "capsid-lab-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	s, args, err := furnish(ctx, o, t, work)
	if err != nil {
		return 0, err
	}
	m, err := start(o, qemu, args)
	if err != nil {
		return 0, err
	}
	defer m.close()
	m.note = func(what string) {
		if o.verbose {
			fmt.Fprintf(os.Stderr, "capsid-lab: %s after %.1f s\n", what, time.Since(begun).Seconds())
		}
	}
	// Once the machine runs, QEMU has all of them open: so they are gone even if this process is killed.
	m.started = func() { os.RemoveAll(work) }
	m.note("QEMU runs")
	return m.run(ctx, o, s)
}

// furnish makes what the machine starts from, as files in work, and its command line.
func furnish(ctx context.Context, o options, t target, work string) (spec, []string, error) {
	p, err := findParts(ctx, o, t)
	if err != nil {
		return spec{}, nil, err
	}
	s, err := newSpec(o, t, p)
	if err != nil {
		return spec{}, nil, err
	}
	initrd := filepath.Join(work, "initrd.img")
	if err := writeInitrd(initrd, t, p, s, o); err != nil {
		return s, nil, fmt.Errorf("initramfs: %w", err)
	}
	disk, err := writeDisk(work, p.folder)
	if err != nil {
		return s, nil, fmt.Errorf("disk of the image's folder: %w", err)
	}
	return s, args(o, t, p, initrd, disk), nil
}

// watchParent cancels when the process that started this one has ended, however it did. The signal of prctl(2) would come already when its thread ends.
func watchParent(cancel context.CancelCauseFunc) error {
	gone := errors.New("the process that started this one has ended")
	parent := os.Getppid()
	fd, err := unix.PidfdOpen(parent, 0)
	if parent == 0 { // it is outside of this PID namespace
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch the process that started this one: %w", err)
	}
	if os.Getppid() != parent {
		return gone
	}
	go func() {
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				cancel(gone)
				return
			}
		}
	}()
	return nil
}
