//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"capsid/guest/link"
)

const (
	// consoleLines is how much of the console a failure shows, and how much of that before a panic: the rest is its trace.
	consoleLines, beforePanic = 40, 15
	// panicLine is what kernel/panic.c says.
	panicLine = "Kernel panic - not syncing: "
)

// machine is a running lab.
type machine struct {
	qemu    *process
	console tail
	log     *os.File       // of the console; may be nil
	reading sync.WaitGroup // of the console
	mux     *link.Mux
	note    func(what string)
	started func() // is called when the program starts
}

func start(o options, qemu string, args []string) (*machine, error) {
	m := &machine{}
	if o.verbose {
		m.console.also = append(m.console.also, os.Stderr)
	}
	if o.console != "" {
		f, err := os.Create(o.console)
		if err != nil {
			return nil, err
		}
		m.log, m.console.also = f, append(m.console.also, f)
	}
	ours, theirs, err := socketPairs(2)
	if err != nil {
		return nil, err
	}
	m.qemu, err = startQEMU(qemu, args, theirs)
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		return nil, err
	}
	m.reading.Go(func() { _, _ = io.Copy(&m.console, ours[1]) }) // until QEMU ends
	m.mux = link.NewMux(ours[0], link.Host)
	return m, nil
}

func (m *machine) close() {
	m.qemu.kill()
	m.mux.Close()
	m.reading.Wait()
	if m.log != nil {
		m.log.Close()
	}
}

// socketPairs makes n pairs: our ends in order, and QEMU's.
func socketPairs(n int) (ours []net.Conn, theirs []*os.File, err error) {
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("socket pair: %w", err)
		}
		theirs = append(theirs, os.NewFile(uintptr(fds[1]), "socket pair"))
		f := os.NewFile(uintptr(fds[0]), "socket pair")
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("socket pair: %w", err)
		}
		ours = append(ours, conn)
	}
	return ours, theirs, nil
}

// gone says why the machine ended before its program did.
func (m *machine) gone() error {
	m.qemu.kill()
	m.reading.Wait()
	why := ""
	for _, line := range m.console.lines() {
		if _, what, ok := strings.Cut(line, initPrefix); ok {
			why = "init:" + what
		}
		if _, what, ok := strings.Cut(line, panicLine); ok && why == "" {
			why = "kernel panic: " + what
		}
	}
	if lines := m.qemu.stderr.lines(); why == "" && len(lines) > 0 {
		why = "QEMU: " + lines[len(lines)-1]
	}
	if why == "" {
		why = fmt.Sprintf("QEMU ended: %v", m.qemu.err)
	}
	return m.explain("the machine ended before its program: " + why)
}

// explain adds the console's last lines.
func (m *machine) explain(what string) error {
	lines := m.console.lines()
	from := len(lines) - consoleLines
	if at := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, panicLine) }); at >= 0 {
		from = min(from, at-beforePanic)
	}
	from = max(from, 0)
	if lines = lines[from:min(from+consoleLines, len(lines))]; len(lines) > 0 {
		what += "\nconsole of the lab:\n  " + strings.Join(lines, "\n  ")
	}
	return errors.New(what)
}
