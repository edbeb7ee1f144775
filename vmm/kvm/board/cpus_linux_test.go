package board

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/ioctl"
)

// openKVM opens the device. In the lab it must be there; elsewhere these tests are for whoever has it.
func openKVM(t testing.TB) *ioctl.System {
	t.Helper()
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		if os.Getenv("CAPSID_LAB") == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
			t.Skipf("%v; make lab has one", err)
		}
		t.Fatal(err)
	}
	defer f.Close()
	sys, err := ioctl.NewSystem(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sys.Close)
	return sys
}

// tiny is a guest of a few instructions. Each processor's architecture has newTiny, and these codes:
//   - halted rests with interrupts off: nothing in the guest can wake it;
//   - spinning counts, and never exits; spun is how far, once it rests;
//   - chatty exits all the time.
type tiny struct {
	vm   *ioctl.VM
	cpus []*ioctl.VCPU
	mem  []byte
}

func (g *tiny) close() {
	for _, c := range g.cpus {
		c.Close()
	}
	g.vm.Close()
	if g.mem != nil {
		unix.Munmap(g.mem)
	}
	g.cpus, g.mem = nil, nil
}

// step runs until an exit.
func step(t testing.TB, c *ioctl.VCPU) {
	t.Helper()
	for {
		err := c.Run()
		if err == nil {
			return
		}
		if err != unix.EINTR && err != unix.EAGAIN {
			t.Fatal(err)
		}
	}
}

func TestPauseIsComplete(t *testing.T) {
	g := newTiny(t, openKVM(t), halted, spinning, chatty)
	var exits atomic.Int64
	p := startProcessors(g.cpus, func(*ioctl.VCPU) { exits.Add(1) }, func(err error) { t.Error(err) })
	p.give(run)
	defer p.stop()
	count, n := uint64(0), int64(0)
	for i := range 200 {
		for {
			p.pause()
			if now := g.spun(t, 1); now != count && exits.Load() != n { // both went on
				count, n = now, exits.Load()
				break
			}
			p.resume()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Millisecond)
		if g.spun(t, 1) != count || exits.Load() != n {
			t.Fatalf("pause %d: a processor goes on", i)
		}
		p.resume()
	}
}

// A kick between two entries must not be lost: the pauses come as fast as they can.
func TestKicksAreNotLost(t *testing.T) {
	g := newTiny(t, openKVM(t), halted, chatty)
	var exits atomic.Int64
	p := startProcessors(g.cpus, func(*ioctl.VCPU) { exits.Add(1) }, func(err error) { t.Error(err) })
	p.give(run)
	defer p.stop()
	done := make(chan bool)
	go func() {
		for range 500 {
			p.pause()
			n := exits.Load()
			p.resume()
			for exits.Load() == n { // else the next pause finds them at rest still
				runtime.Gosched()
			}
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("a processor does not come to rest")
	}
}

// TestTeardown: processors come and go without a trace.
func TestTeardown(t *testing.T) {
	sys := openKVM(t)
	cycle := func() {
		g := newTiny(t, sys, halted, spinning)
		p := startProcessors(g.cpus, func(*ioctl.VCPU) {}, func(err error) { t.Error(err) })
		p.give(run)
		p.stop()
		g.close()
	}
	count := func() (threads, files, maps int) {
		return entries(t, "/proc/self/task"), entries(t, "/proc/self/fd"), lines(t, "/proc/self/maps")
	}
	for range 20 {
		cycle()
	}
	threads, files, maps := count()
	for range 200 {
		cycle()
	}
	// The runtime keeps some threads, and maps some memory, of its own accord.
	if t2, f2, m2 := count(); t2 > threads+4 || f2 > files || m2 > maps+40 {
		t.Errorf("after 200 machines: %d threads instead of %d, %d descriptors instead of %d, %d mappings instead of %d", t2, threads, f2, files, m2, maps)
	}
}

func entries(t testing.TB, dir string) int {
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func lines(t testing.TB, path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}
