//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"capsid/guest/link"
)

// consoleLines is how much of the console a failure shows.
const consoleLines = 25

// host runs the command in the lab and returns its exit status.
func host(ctx context.Context, o options) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := watchParent(cancel); err != nil {
		return 0, err
	}
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() { cancel(fmt.Errorf("ended by signal: %v", <-ends)) }()

	qemu, err := exec.LookPath(o.qemu)
	if err != nil {
		return 0, fmt.Errorf("no QEMU: %w: apt install qemu-system-x86", err)
	}
	begun := time.Now()
	img, err := openImage(o.image)
	if err != nil {
		return 0, err
	}
	modules, err := cachedModules(ctx, img)
	if err != nil {
		return 0, err
	}
	s, err := newSpec(o, img)
	if err != nil {
		return 0, err
	}
	work, err := os.MkdirTemp("", "capsid-lab-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	initrd := filepath.Join(work, "initrd.img")
	if err := writeInitrd(initrd, modules, s, o); err != nil {
		return 0, fmt.Errorf("initramfs: %w", err)
	}
	disk, err := writeDisk(work, img.Dir)
	if err != nil {
		return 0, fmt.Errorf("disk of the image's folder: %w", err)
	}
	m, err := start(o, qemu, args(o, img.Kernel(), initrd, img.Root(), disk))
	if err != nil {
		return 0, err
	}
	defer m.close()
	m.note = func(what string) {
		if o.verbose {
			fmt.Fprintf(os.Stderr, "capsid-lab: %s after %.1f s\n", what, time.Since(begun).Seconds())
		}
	}
	m.note("QEMU runs")
	return m.run(ctx, o, s, quit)
}

// watchParent cancels when the process that started this one has ended, however it did. A signal by prctl(2) would come already when its thread ends.
func watchParent(cancel context.CancelCauseFunc) error {
	parent := os.Getppid()
	fd, err := unix.PidfdOpen(parent, 0)
	if err != nil || os.Getppid() != parent {
		return fmt.Errorf("the process that started this one has ended: %v", err)
	}
	go func() {
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				cancel(errors.New("the process that started this one has ended"))
				return
			}
		}
	}()
	return nil
}

// machine is a running lab.
type machine struct {
	qemu    *os.Process
	ended   <-chan error
	stderr  *tail
	console *tail
	reading sync.WaitGroup // of the console
	log     *os.File       // may be nil
	mux     *link.Mux
	note    func(what string)
}

func start(o options, qemu string, args []string) (*machine, error) {
	m := &machine{stderr: &tail{}, console: &tail{}}
	if o.console != "" {
		f, err := os.Create(o.console)
		if err != nil {
			return nil, err
		}
		m.log, m.console.also = f, f
	}
	if o.verbose {
		m.console.also = os.Stderr
	}
	ours, theirs, err := socketPairs(2)
	if err != nil {
		return nil, err
	}
	m.qemu, m.ended, err = startQEMU(qemu, args, m.stderr, theirs)
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	m.reading.Go(func() { io.Copy(m.console, ours[1]) })
	m.mux = link.NewMux(ours[0], link.Host)
	return m, nil
}

func (m *machine) close() {
	m.qemu.Kill()
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

// run serves the lab's streams until its program has ended.
func (m *machine) run(ctx context.Context, o options, s spec, quit <-chan os.Signal) (int, error) {
	accept := func(port link.Port) (<-chan link.Conn, error) {
		l, err := m.mux.Listen(port)
		if err != nil {
			return nil, err
		}
		ch := make(chan link.Conn, 1)
		go func() {
			defer l.Close()
			if c, err := l.Accept(); err == nil {
				ch <- c.(link.Conn)
			}
		}()
		return ch, nil
	}
	var streams [4]<-chan link.Conn
	for i := range streams {
		var err error
		if streams[i], err = accept(controlPort + link.Port(i)); err != nil {
			return 0, err
		}
	}
	var restore func()
	if s.Terminal {
		state, err := term.MakeRaw(0)
		if err != nil {
			return 0, err
		}
		restore = sync.OnceFunc(func() { _ = term.Restore(0, state) })
		defer restore()
	}
	var output sync.WaitGroup
	copyOut := func(w io.Writer, from <-chan link.Conn) {
		select {
		case c := <-from:
			_, _ = io.Copy(w, c)
			// Who does not read any more will see no more; the program goes on, as one before a closed pipe that ignores it.
			_, _ = io.Copy(io.Discard, c)
		case <-m.mux.Done():
		}
	}
	output.Go(func() { copyOut(os.Stdout, streams[2]) })
	if !s.OneOutput {
		output.Go(func() { copyOut(os.Stderr, streams[3]) })
	}
	go func() {
		select {
		case c := <-streams[1]:
			_, _ = io.Copy(c, os.Stdin)
			c.CloseWrite()
		case <-m.mux.Done():
		}
	}()

	messages, send := m.control(streams[0])
	resized := make(chan os.Signal, 1)
	if s.Terminal {
		signal.Notify(resized, syscall.SIGWINCH)
	}
	boot := time.NewTimer(o.bootTimeout)
	defer boot.Stop()
	var deadline <-chan time.Time
	for {
		select {
		case msg := <-messages:
			switch {
			case msg.Failed != "":
				return 0, m.explain(msg.Failed)
			case msg.Started:
				m.note("the program starts")
				boot.Stop()
				if o.timeout > 0 {
					deadline = time.After(o.timeout)
				}
			case msg.Ended:
				output.Wait()
				m.note("the program has ended")
				return msg.Exit, nil
			}
		case <-quit:
			send(message{Signal: int(syscall.SIGQUIT)})
		case <-resized:
			if columns, rows, err := term.GetSize(0); err == nil {
				send(message{Rows: rows, Columns: columns})
			}
		case <-boot.C:
			return 0, m.explain(fmt.Sprintf("the machine has not started the program within %v", o.bootTimeout))
		case <-deadline:
			return 0, m.explain(fmt.Sprintf("the program has not ended within %v", o.timeout))
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case err := <-m.ended:
			return 0, m.gone(err)
		case <-m.mux.Done():
			return 0, m.gone(m.mux.Err())
		}
	}
}

// control reads the lab's messages. Those of the host wait for the stream's start in a short queue.
func (m *machine) control(stream <-chan link.Conn) (<-chan message, func(message)) {
	in, out := make(chan message), make(chan message, 8)
	go func() {
		var c link.Conn
		select {
		case c = <-stream:
		case <-m.mux.Done():
			return
		}
		go func() {
			enc := json.NewEncoder(c)
			for {
				select {
				case msg := <-out:
					if enc.Encode(msg) != nil {
						return
					}
				case <-m.mux.Done():
					return
				}
			}
		}()
		dec := json.NewDecoder(c)
		for {
			var msg message
			if dec.Decode(&msg) != nil {
				return // the link's end says more
			}
			select {
			case in <- msg:
			case <-m.mux.Done():
				return
			}
		}
	}()
	return in, func(msg message) {
		select {
		case out <- msg:
		default:
		}
	}
}

// gone says why the machine ended before its program.
func (m *machine) gone(err error) error {
	m.qemu.Kill()
	m.reading.Wait()
	for _, line := range m.console.lines(1000) {
		if _, what, ok := strings.Cut(line, "Kernel panic - not syncing: "); ok {
			return m.explain("the lab's kernel panicked: " + what)
		}
	}
	if lines := m.stderr.lines(1); len(lines) > 0 {
		return m.explain("QEMU: " + lines[0])
	}
	return m.explain(fmt.Sprintf("the machine ended before its program: %v", err))
}

// explain adds the console's last lines.
func (m *machine) explain(what string) error {
	if lines := m.console.lines(consoleLines); len(lines) > 0 {
		what += "\nconsole of the lab:\n  " + strings.Join(lines, "\n  ")
	}
	return errors.New(what)
}
