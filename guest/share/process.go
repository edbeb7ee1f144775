package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"capsid/guest/link"
	"capsid/guest/share/pump"
)

// Config says what folder is shared and how.
type Config struct {
	// Executable and Args start a process that calls Main with no arguments: the caller's own program with a hidden command.
	Executable string
	Args       []string
	// Dir is the folder, in the host's view; symbolic links in its path are followed, once.
	Dir      string
	ReadOnly bool
	// HostUID and HostGID are who the process acts as, and who owns new files; only root can name another than itself. Root that names itself for a folder
	// of somebody else's acts as that owner.
	HostUID, HostGID int
	// GuestUID and GuestGID are who that is in the guest.
	GuestUID, GuestGID int
	// State is what Save of another Process for the same folder returned; the guest that was served by that one goes on with this one. Nil for a new machine.
	State []byte
	// Log takes what the process has to say, in lines; nil drops it.
	Log io.Writer
}

// Process is a running share process. Its methods may be called from any goroutine.
type Process struct {
	control  *os.File
	command  *exec.Cmd
	defences []string
	lost     int
	done     chan struct{}
	err      error // set before done is closed
	mu       sync.Mutex
	closing  bool
}

// startTimeout is how long the process may take until its walls are up. It takes 50 ms on a quiet machine.
const startTimeout = 30 * time.Second

// closeTimeout is how long it may take to end by itself.
const closeTimeout = 2 * time.Second

// Start starts the process and returns when its walls are up. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	set := settings{
		Owners:   owners{uint32(cfg.HostUID), uint32(cfg.HostGID), uint32(cfg.GuestUID), uint32(cfg.GuestGID)},
		ReadOnly: cfg.ReadOnly,
		Load:     cfg.State != nil,
	}
	fd, err := unix.Open(cfg.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share %s: open the folder: %w", cfg.Dir, err)
	}
	folder := os.NewFile(uintptr(fd), cfg.Dir)
	defer folder.Close()
	st, err := statAt(fd, "")
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", cfg.Dir, err)
	}
	if cfg.HostUID == 0 && st.Uid != 0 {
		set.Owners.HostUID, set.Owners.HostGID = st.Uid, st.Gid
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share %s: socket: %w", cfg.Dir, err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	p := &Process{control: os.NewFile(uintptr(pair[0]), "control"), done: make(chan struct{})}
	p.command = &exec.Cmd{
		Path:       cfg.Executable,
		Args:       append([]string{cfg.Executable}, cfg.Args...),
		Env:        []string{"LANG=C.UTF-8"}, // nothing of the host's
		Dir:        "/",
		Stderr:     cfg.Log,
		ExtraFiles: []*os.File{folder, theirs},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:    true, // a ctrl-C in a terminal is not for it
			Pdeathsig: syscall.SIGKILL,
		},
	}
	err = p.launch()
	_ = theirs.Close() // or the end of the process would not be the end of the socket
	if err != nil {
		_ = p.control.Close()
		return nil, fmt.Errorf("share %s: start %s: %w", cfg.Dir, cfg.Executable, err)
	}
	if err := p.greet(ctx, set, cfg.State); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("share %s: %w", cfg.Dir, err)
	}
	return p, nil
}

// launch starts the command and sees to its end on one thread that stays: the kernel takes the end of the thread that
// started a process for the end of its parent.
func (p *Process) launch() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err != nil {
			return
		}
		err = p.command.Wait()
		p.mu.Lock()
		if !p.closing {
			p.err = fmt.Errorf("share: the process has ended: %w", errors.Join(err, errUnasked))
		}
		p.mu.Unlock()
		close(p.done)
	}()
	return <-started
}

var errUnasked = errors.New("nobody asked it to")

// greet tells the process its settings, and its state if there is one, and hears what walls are up.
func (p *Process) greet(ctx context.Context, set settings, state []byte) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	fd := int(p.control.Fd())
	if err := sendJSON(fd, set); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if set.Load {
		loaded, err := p.sendState(state)
		if err != nil {
			return fmt.Errorf("state: %w", err)
		}
		defer loaded()
	}
	type result struct {
		report report
		err    error
	}
	answer := make(chan result, 1)
	go func() {
		var r result
		r.err = receiveJSON(fd, &r.report)
		answer <- r
	}()
	select {
	case r := <-answer:
		switch {
		case r.err != nil:
			return fmt.Errorf("the share process did not start: %w", r.err)
		case r.report.Error != "":
			return errors.New(r.report.Error)
		}
		p.defences, p.lost = r.report.Defences, r.report.Lost
		return nil
	case <-ctx.Done():
		_ = p.command.Process.Kill() // ends the read
		<-answer
		return fmt.Errorf("the share process did not start: %w", ctx.Err())
	}
}

// sendState hands the state over; call loaded when the process has answered or is gone.
func (p *Process) sendState(state []byte) (loaded func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	err = p.hand(orderLoad, int(r.Fd()))
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = w.Write(state) // what does not arrive is missed there
		_ = w.Close()
	}()
	return func() {
		_ = w.Close()
		<-written
	}, nil
}

// Save returns what a new process needs to know so that the guest can go on with it (Config.State): which files the guest knows by which number, what it
// has open, and how its latest changes were answered. It is kept as a file by whoever keeps the machine, and may be long (100 bytes for each file that the guest knows, 256 MiB
// at most).
//
// A snapshot of the machine fits it if the guest does not use the share from before Save until after the snapshot: have its programs stopped and then its pump frozen (see
// pump.Pump.Freeze). This process goes on as before.
func (p *Process) Save(ctx context.Context) ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("share: save: %w", err)
	}
	defer r.Close()
	err = p.hand(orderSave, int(w.Fd()))
	_ = w.Close()
	if err != nil {
		return nil, fmt.Errorf("share: save: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := io.ReadAll(io.LimitReader(r, 1+maxState+1))
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("share: save: %w", ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("share: save: %w", err)
	case len(b) == 0:
		return nil, errors.New("share: save: the process has ended")
	case b[0] != 0:
		return nil, errors.New(string(b[1:]))
	}
	if !sealed(b[1:]) {
		return nil, errors.New("share: save: the process has ended")
	}
	return b[1:], nil
}

// Lost is how many files and folders that were open when the state was saved are not there any more; the guest gets ESTALE from them.
func (p *Process) Lost() int { return p.lost }

// Defences lists the walls around the process, one a line, as it found them in force; one that this kernel does not have is listed as missing.
func (p *Process) Defences() []string { return append([]string(nil), p.defences...) }

// Done is closed when the process has ended; Err says why, nil after Close.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is why the process ended, or nil.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Close ends the process. All that the guest was told is written is with the host's kernel by then.
func (p *Process) Close() error {
	p.mu.Lock()
	first := !p.closing
	p.closing = true
	p.mu.Unlock()
	if first {
		_ = p.control.Close()
	}
	late := time.AfterFunc(closeTimeout, func() { _ = p.command.Process.Kill() })
	<-p.done
	late.Stop()
	return nil
}

// Serve joins a link stream, from which the tag has been read, to the process, until either ends. It closes conn.
func (p *Process) Serve(conn link.Conn) error {
	defer conn.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("share: socket: %w", err)
	}
	err = p.hand(orderServe, pair[1])
	_ = unix.Close(pair[1])
	if err == nil {
		err = unix.SetNonblock(pair[0], true)
	}
	if err != nil {
		_ = unix.Close(pair[0])
		_, _ = conn.Write(pump.Refuse(unix.ENOTCONN)) // if it is there to go on, it need not try again
		return fmt.Errorf("share: hand the stream over: %w", err)
	}
	socket := os.NewFile(uintptr(pair[0]), "stream")
	defer socket.Close()

	ended := make(chan error, 2)
	go func() {
		ended <- carry(socket, conn)
		_ = socket.Close()
		_ = conn.Close()
	}()
	go func() {
		ended <- carry(conn, socket)
		_ = socket.Close()
		_ = conn.Close()
	}()
	err = <-ended
	<-ended
	return err
}

// hand gives the process an order.
func (p *Process) hand(order byte, fd int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return os.ErrClosed
	}
	return retry(func() error {
		return unix.Sendmsg(int(p.control.Fd()), []byte{order}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
	})
}

// carry copies until the end of either, whose own errors are how streams end.
func carry(to io.Writer, from io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return fmt.Errorf("share: %w", err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("share: %w", err)
		}
	}
}
