package soft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"capsid/guest/link"
	"capsid/vmm"
	"capsid/vmm/console"
	"capsid/vmm/process"
)

// quitTime is how long QEMU has to end after it was asked to, and to be gone after its sockets are.
const quitTime = 3 * time.Second

// machine is a QEMU that runs.
type machine struct {
	info    vmm.Info
	cfg     vmm.Config
	proc    *process.Process
	memory  *os.File // what QEMU maps
	mux     *link.Mux
	mon     *monitor
	console *console.Log
	disks   *disks
	reading sync.WaitGroup // of the console

	turn     sync.Mutex  // of Pause, Resume and Snapshot
	migrated chan string // how a migration ended

	mu       sync.Mutex
	shutdown string // the reason that QEMU gave, if any
	fault    error  // what QEMU did that it never does of itself
	closing  bool
	done     chan struct{}
	err      error
}

// event takes note of why QEMU is about to end, and of how a migration has ended.
func (m *machine) event(e event) {
	switch {
	case e.Name == "MIGRATION" && over(e.Data.Status):
		select {
		case m.migrated <- e.Data.Status:
		default: // nobody has asked for the one before
		}
		return
	case e.Name != "SHUTDOWN":
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shutdown == "" {
		m.shutdown = e.Data.Reason
	}
}

// cut ends a QEMU that does what it never does of itself.
func (m *machine) cut(err error) {
	m.mu.Lock()
	m.fault = err
	m.mu.Unlock()
	m.proc.Kill()
}

// watch waits until QEMU has ended or its guest has broken the link, and leaves nothing behind.
func (m *machine) watch() {
	select {
	case <-m.proc.Done:
	case <-m.mux.Done():
		if !errors.Is(m.mux.Err(), link.ErrProtocol) {
			// QEMU closes its sockets before it ends: it says better why.
			select {
			case <-m.proc.Done:
			case <-time.After(quitTime):
			}
		}
		m.proc.Kill()
	}
	cut := m.mux.Err() // before Close covers it
	m.mux.Close()
	<-m.mon.done
	m.reading.Wait()
	m.console.Close()
	m.disks.close()
	m.memory.Close()

	m.mu.Lock()
	m.err = m.cause(cut)
	m.mu.Unlock()
	close(m.done)
}

func (m *machine) cause(cut error) error {
	switch {
	case m.closing:
		return link.ErrClosed
	case m.fault != nil:
		return m.crash(m.fault.Error())
	case errors.Is(cut, link.ErrProtocol):
		return m.crash(cut.Error())
	case m.shutdown == "guest-shutdown":
		return nil
	case m.shutdown == "guest-panic":
		return m.crash("the kernel panicked")
	case m.shutdown == "guest-reset":
		// panic=-1 makes a reset of every panic.
		if m.console.Panicked() {
			return m.crash("the kernel panicked")
		}
		return m.crash("the guest rebooted")
	}
	why := "QEMU ended"
	if m.proc.Err != nil {
		why += ": " + m.proc.Err.Error()
	}
	if line := m.proc.Stderr.Line(); line != "" {
		why += ": " + line
	}
	return m.crash(why)
}

func (m *machine) crash(why string) error {
	return fmt.Errorf("%w: %s; %s", vmm.ErrCrashed, why, m.console.Crash())
}

func (m *machine) Dial(ctx context.Context, port link.Port) (link.Conn, error) {
	return m.mux.Dial(ctx, port)
}

func (m *machine) Listen(port link.Port) (net.Listener, error) { return m.mux.Listen(port) }

func (m *machine) Done() <-chan struct{} { return m.done }

func (m *machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

func (m *machine) Pause(ctx context.Context) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	return ended(m.mon.do(ctx, "stop"))
}

func (m *machine) Resume(ctx context.Context) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	return ended(m.goOn(ctx))
}

// ended says of a machine what its monitor says of itself.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("machine has ended: %w", link.ErrClosed)
	}
	return err
}

// Close pulls the plug. QEMU is asked first, so that what the host's cache holds of the disks is written in order.
func (m *machine) Close() error {
	m.mu.Lock()
	select {
	case <-m.done:
	default:
		m.closing = m.closing || m.shutdown == ""
	}
	m.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), quitTime)
	defer cancel()
	if m.mon.do(ctx, "quit") == nil {
		select {
		case <-m.proc.Done:
		case <-ctx.Done():
		}
	}
	m.proc.Kill()
	<-m.done
	return nil
}

func (m *machine) Console(n int) []string { return m.console.Last(n) }

func (m *machine) Info() vmm.Info { return m.info }
