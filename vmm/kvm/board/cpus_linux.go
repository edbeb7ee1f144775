package board

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/ioctl"
)

// what all processors are to do.
type order int

const (
	run order = iota
	park
	quit
)

// processors runs each virtual processor on a thread of its own.
type processors struct {
	exit func(*ioctl.VCPU) // serves an exit, on the processor's thread
	fail func(error)       // a processor that cannot go on

	threads sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond // of order and parked
	order  order
	parked int
	list   []*processor
}

type processor struct {
	*ioctl.VCPU
	tid int
}

// startProcessors returns when all threads have begun. The processors rest.
func startProcessors(list []*ioctl.VCPU, exit func(*ioctl.VCPU), fail func(error)) *processors {
	p := &processors{exit: exit, fail: fail, order: park}
	p.change = sync.NewCond(&p.mu)
	begun := make(chan *processor)
	for _, c := range list {
		c.SetImmediateExit(true) // the first Run does nothing
		p.threads.Go(func() {
			// Never unlocked: KVM binds a processor to the thread that made its first call (api.rst, "vcpu ioctls"), and the thread ends with it.
			runtime.LockOSThread()
			cpu := &processor{c, unix.Gettid()}
			begun <- cpu
			p.loop(cpu)
		})
	}
	for range list {
		cpu := <-begun
		p.mu.Lock()
		p.list = append(p.list, cpu)
		p.mu.Unlock()
	}
	return p
}

func (p *processors) loop(c *processor) {
	for {
		switch err := c.Run(); err {
		case nil:
			p.exit(c.VCPU)
		case unix.EINTR:
			// What the last exit asked for is done now, so the processor's state is whole: this is the only place where it rests. The flag is
			// cleared before the order is read: an order that is given in between sets it again, and the next Run ends at once.
			c.SetImmediateExit(false)
			if !p.obey() {
				return
			}
		case unix.EAGAIN:
			// A processor that waited to be started was (api.rst, KVM_RUN).
		default:
			p.fail(fmt.Errorf("processor %d: %w", c.ID(), err))
			p.give(quit)
		}
	}
}

// obey rests as long as it is told to. False ends the thread.
func (p *processors) obey() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.order == park {
		p.parked++
		p.change.Broadcast()
		for p.order == park {
			p.change.Wait()
		}
		p.parked--
	}
	return p.order == run
}

// give tells all processors what to do. None can miss it: one that runs or is halted is woken by the signal, one that is between two Runs sees
// the flag. The signal is SIGURG, which the Go runtime takes at any time (runtime/signal_unix.go) and a guest's entry does not survive.
func (p *processors) give(o order) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.order == quit {
		return
	}
	p.order = o
	p.change.Broadcast()
	if o == run {
		return
	}
	pid := os.Getpid()
	for _, c := range p.list {
		c.SetImmediateExit(true)
		_ = unix.Tgkill(pid, c.tid, unix.SIGURG) // a thread that has ended needs none
	}
}

// pause returns when every processor rests.
func (p *processors) pause() {
	p.give(park)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.order == park && p.parked < len(p.list) {
		p.change.Wait()
	}
}

func (p *processors) resume() { p.give(run) }

// stop ends all threads and waits for them; not for a processor's own thread.
func (p *processors) stop() {
	p.give(quit)
	p.threads.Wait()
}
