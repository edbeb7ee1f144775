package kvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"capsid/guest/link"
	"capsid/vmm"
	"capsid/vmm/console"
	"capsid/vmm/kvm/board"
	"capsid/vmm/process"
)

// machine is the owner's side of a machine's process.
type machine struct {
	info   vmm.Info
	dir    string // of its own
	proc   *process.Process
	socket socket
	log    *console.Log
	tasks  sync.WaitGroup // readers of the socket and of the console
	ports  ports

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan reply // dials, pauses, resumes
	started chan error            // gets the first message
	end     *message              // how the machine ended, by its own word
	faults  []string
	closing bool
	done    chan struct{}
	err     error
}

type reply struct {
	file   *os.File
	frozen bool // only that: the last word is to come
	diff   bool
	err    error
}

func newMachine(proc *process.Process, s socket, log *console.Log, text *os.File) *machine {
	m := &machine{
		proc: proc, socket: s, log: log, waiting: map[uint64]chan reply{}, started: make(chan error, 1), done: make(chan struct{}),
	}
	m.ports.init()
	m.tasks.Go(func() {
		defer text.Close()
		_, _ = io.Copy(log, text) // until the process has ended
	})
	m.tasks.Go(m.listen)
	go m.watch()
	return m
}

// begin hands the configuration over and waits until the processors run. On failure nothing is left.
func (m *machine) begin(ctx context.Context, c config) error {
	err := m.socket.send(message{Kind: start, Config: &c})
	if err == nil {
		select {
		case err = <-m.started:
			if err == nil {
				return nil
			}
		case <-m.done:
			err = errors.New("the machine's process ended at once")
			if line := m.proc.Stderr.Line(); line != "" {
				err = errors.New(line)
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	m.Close()
	return err
}

// listen takes the machine's messages until its process has ended or breaks the rules, which ends it.
func (m *machine) listen() {
	for {
		msg, files, err := m.socket.receive()
		if err != nil {
			if errors.Is(err, errMessage) {
				m.proc.Kill()
			}
			return
		}
		var f *os.File
		if len(files) > 0 {
			f = files[0]
			closeAll(files[1:]) // none has more
		}
		switch msg.Kind {
		case started:
			err := textError(msg.Error)
			if msg.Damaged {
				err = fmt.Errorf("%w: %w", vmm.ErrSnapshot, err)
			}
			select {
			case m.started <- err:
			default:
			}
		case dialed, done:
			m.reply(msg, f)
			f = nil
		case frozen:
			m.mu.Lock()
			c := m.waiting[msg.ID]
			m.mu.Unlock()
			if c != nil && len(c) == 0 { // there is room for the last word always, whatever the process says
				c <- reply{frozen: true}
			}
		case stream:
			m.incoming(msg, f)
			f = nil
		case fault:
			m.mu.Lock()
			if len(m.faults) < maxFaults {
				m.faults = append(m.faults, msg.Error)
			}
			m.mu.Unlock()
			fmt.Fprintf(m.log, "\ncapsid: %s\n", msg.Error)
		case ended:
			m.mu.Lock()
			if m.end == nil {
				m.end = &msg
			}
			m.mu.Unlock()
		}
		if f != nil {
			f.Close()
		}
	}
}

// maxFaults is how many faults of devices an error speaks of.
const maxFaults = 4

func textError(s string) error {
	if s == "" {
		return nil
	}
	return errors.New(s)
}

// request sends a message and makes a channel for its answer.
func (m *machine) request(msg message, files ...*os.File) (uint64, chan reply, error) {
	c := make(chan reply, 2) // a save has two
	m.mu.Lock()
	m.nextID++
	id := m.nextID
	m.waiting[id] = c
	m.mu.Unlock()
	msg.ID = id
	if err := m.socket.send(msg, files...); err != nil {
		m.forget(id)
		return 0, nil, err
	}
	return id, c, nil
}

// forget makes an answer go nowhere. It returns whether none has come.
func (m *machine) forget(id uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, waits := m.waiting[id]
	delete(m.waiting, id)
	return waits
}

func (m *machine) reply(msg message, f *os.File) {
	m.mu.Lock()
	c := m.waiting[msg.ID]
	delete(m.waiting, msg.ID)
	m.mu.Unlock()
	if c == nil {
		if f != nil {
			f.Close()
		}
		return
	}
	c <- reply{file: f, diff: msg.Diff, err: textError(msg.Error)}
}

// watch leaves nothing behind once the process has ended.
func (m *machine) watch() {
	<-m.proc.Done
	m.tasks.Wait()
	m.socket.conn.Close()
	m.log.Close()

	m.mu.Lock()
	m.err = m.cause()
	m.mu.Unlock()
	m.ports.close(m.err)
	close(m.done)
}

func (m *machine) cause() error {
	switch {
	case m.closing:
		return link.ErrClosed
	case m.end == nil:
		why := "its process ended"
		if m.proc.Err != nil {
			why += ": " + m.proc.Err.Error()
		}
		if line := m.proc.Stderr.Line(); line != "" {
			why += ": " + line
		}
		return m.crash(why)
	case m.end.End == string(board.PowerOff):
		return nil
	case m.log.Panicked():
		// panic=-1 makes a reset of every panic.
		return m.crash("the kernel panicked")
	case m.end.End == string(board.Reboot):
		return m.crash("the guest rebooted")
	}
	return m.crash(m.end.Error)
}

func (m *machine) crash(why string) error {
	for _, f := range m.faults {
		why += "; " + f
	}
	return fmt.Errorf("%w: %s; %s", vmm.ErrCrashed, why, m.log.Crash())
}

// Done is closed when the machine has ended.
func (m *machine) Done() <-chan struct{} { return m.done }

// Err says why.
func (m *machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

func (m *machine) Pause(ctx context.Context) error {
	_, err := m.do(ctx, message{Kind: pause}, nil)
	return err
}

func (m *machine) Resume(ctx context.Context) error {
	_, err := m.do(ctx, message{Kind: resume}, nil)
	return err
}

// do asks for something and waits until it is done. onFrozen, which may be nil, is for a save.
func (m *machine) do(ctx context.Context, msg message, onFrozen func(), files ...*os.File) (reply, error) {
	id, answer, err := m.request(msg, files...)
	for err == nil {
		select {
		case r := <-answer:
			if !r.frozen {
				return r, r.err
			}
			if onFrozen != nil {
				onFrozen()
			}
			continue
		case <-ctx.Done():
			m.forget(id)
			return reply{}, ctx.Err()
		case <-m.done:
		}
		break
	}
	return reply{}, fmt.Errorf("machine has ended: %w", link.ErrClosed)
}

// Close pulls the plug. What the guest has written to its disks is with the host's kernel already.
func (m *machine) Close() error {
	m.mu.Lock()
	if m.end == nil {
		m.closing = true
	}
	m.mu.Unlock()
	m.proc.Kill()
	<-m.done
	return nil
}

func (m *machine) Console(n int) []string { return m.log.Last(n) }

func (m *machine) Info() vmm.Info { return m.info }

// Defences lists the walls around the machine's process.
func (m *machine) Defences() []string {
	return append([]string{"the VMM has no path to a file and no network: it was handed open what it needs"}, m.proc.Defences()...)
}

var _ net.Listener = (*listener)(nil)
