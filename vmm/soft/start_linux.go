package soft

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"capsid/guest/link"
	"capsid/vmm"
	"capsid/vmm/console"
	"capsid/vmm/process"
)

// Start makes a machine. It returns when QEMU has made it and its processors run.
func (b Backend) Start(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	a, path, probe := b.find(ctx)
	if !probe.Usable {
		return nil, fmt.Errorf("%w: %s (%s)", vmm.ErrStart, probe.Reason, probe.Fix)
	}
	m, err := launch(ctx, a, path, cfg, "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", vmm.ErrStart, err)
	}
	m.info.Backend, m.info.Detail = b.Name(), probe.Detail
	return m, nil
}

// launch opens all that QEMU gets, runs it and waits for its greeting, and has it load what it was when it is restored from a snapshot's folder. What was made is
// undone when a later step fails.
func launch(ctx context.Context, a arch, path string, cfg vmm.Config, from string) (_ *machine, err error) {
	var undo []func()
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	h := &handout{}
	defer h.close() // QEMU has its own copies by then
	fd := descriptors{restored: from != ""}
	if !fd.restored {
		for i, n := range []*int{&fd.kernel, &fd.initrd} {
			f, err := openBootFile([]string{cfg.Kernel, cfg.Initrd}[i], cfg.Dir)
			if err != nil {
				return nil, err
			}
			*n = h.add(f)
		}
	}
	memory, err := newMemory(ctx, cfg.Memory, from)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { memory.Close() })
	if fd.memory, err = h.copy(memory); err != nil {
		return nil, err
	}
	exports := &disks{}
	undo = append(undo, exports.close)
	if fd.disks, err = exports.open(cfg.Disks, h); err != nil {
		return nil, err
	}
	var conns [3]net.Conn
	for i, n := range []*int{&fd.link, &fd.console, &fd.qmp} {
		if conns[i], *n, err = h.socket(); err != nil {
			return nil, err
		}
		undo = append(undo, func() { conns[i].Close() })
	}
	con, err := console.Open(cfg.Dir)
	if err != nil {
		return nil, err
	}
	undo = append(undo, con.Close)
	proc, err := process.Start(path, args(a, cfg, fd), h.files)
	if err != nil {
		return nil, err
	}
	undo = append(undo, proc.Kill)
	h.close()

	m := &machine{cfg: cfg, proc: proc, memory: memory, console: con, disks: exports, migrated: make(chan string, 1), done: make(chan struct{})}
	exports.serve(m.cut)
	m.info = vmm.Info{PID: proc.PID(), Started: time.Now()}
	m.mon = newMonitor(conns[2], m.event)
	undo = append(undo, func() { conns[2].Close(); <-m.mon.done })
	if err := m.mon.start(ctx); err != nil {
		return nil, m.explain(ctx, err)
	}
	newMux := func(c net.Conn) *link.Mux { return link.NewMux(c, link.Host) }
	if fd.restored {
		if err := m.load(ctx, from); err != nil {
			return nil, err
		}
		newMux = func(c net.Conn) *link.Mux { return link.RestoreMux(c) }
	}
	m.reading.Go(func() { io.Copy(con, conns[1]); conns[1].Close() })
	m.mux = newMux(conns[0])
	go m.watch()
	return m, nil
}

// explain prefers what QEMU said to what its silence looks like.
func (m *machine) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.proc.Kill()
	if line := m.proc.Stderr.Line(); line != "" {
		return fmt.Errorf("QEMU: %s", line)
	}
	return fmt.Errorf("QEMU ended at once (%v): %w", m.proc.Err, err)
}

// handout collects the files that QEMU gets.
type handout struct{ files []*os.File }

func (h *handout) add(f *os.File) int {
	h.files = append(h.files, f)
	return process.FirstFD + len(h.files) - 1
}

func (h *handout) open(path string, mode int) (int, error) {
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return 0, err
	}
	return h.add(f), nil
}

// copy adds a file that stays open here.
func (h *handout) copy(f *os.File) (int, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return h.add(os.NewFile(uintptr(fd), f.Name())), nil
}

// socket makes a pair: one end is ours, the other QEMU's.
func (h *handout) socket() (net.Conn, int, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("socket pair: %w", err)
	}
	theirs := h.add(os.NewFile(uintptr(fds[1]), "socket pair"))
	ours := os.NewFile(uintptr(fds[0]), "socket pair")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, 0, fmt.Errorf("socket pair: %w", err)
	}
	return conn, theirs, nil
}

func (h *handout) close() {
	for _, f := range h.files {
		f.Close()
	}
	h.files = nil
}
