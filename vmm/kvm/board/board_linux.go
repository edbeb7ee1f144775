// Package board is a whole machine: guest memory, processors and devices put together over /dev/kvm. It runs in a process of its own (see package kvm), and
// says on channels and by calls what becomes of it.
package board

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"capsid/vmm/disk"
	"capsid/vmm/kvm/ioctl"
	"capsid/vmm/virtio"
)

// Config says what a machine is made of. The files stay the caller's, and open until Close.
type Config struct {
	KVM     *os.File
	Kernel  *os.File // vmlinux, bzImage or Image
	Initrd  *os.File
	Cmdline string // beyond the machine's own parameters
	CPUs    int
	Memory  int64 // bytes, whole pages
	Disks   []Disk
	Console io.Writer // what the guest writes to its console, as it is
	// Stream is called when the guest opens a stream to a port of the host; see virtio.VsockConfig.
	Stream  func(port uint32, far *os.File, decide func(accept bool))
	Pagemap *os.File // /proc/self/pagemap; opened by whoever is still allowed to
	// Fault gets what a device's driver did wrong; the machine goes on without that device.
	Fault func(error)
}

// Disk is one block device: see disk.Open.
type Disk struct {
	Layers   []*os.File
	ReadOnly bool
}

// End is why a machine has ended.
type End string

// The ways in which machines end.
const (
	PowerOff End = "power off"
	Reboot   End = "reboot"
	Crash    End = "crash"
)

// GuestCID is the guest's address on its vsock, which no other machine shares or sees: the smallest that is not reserved (§5.10.4).
const GuestCID = 3

// Board is a machine that runs.
type Board struct {
	vm     *ioctl.VM
	ram    *ram
	memory *virtio.Memory
	cpus   *processors
	vcpus  []*ioctl.VCPU
	bus    bus
	irqs   []int // eventfds
	vsock  *virtio.Vsock
	disks  []*disk.Stack
	platform

	pausing sync.Mutex // one pause, resume or snapshot at a time
	resting bool
	once    sync.Once
	end     End
	err     error
	done    chan struct{}
}

// New makes a machine and lets it run.
func New(cfg Config) (*Board, error) {
	b, err := build(cfg, func() (*ram, error) { return newRAM(cfg.Memory, cfg.Pagemap) }, nil)
	if err != nil {
		return nil, err
	}
	b.cpus.give(run)
	return b, nil
}

// build makes a machine that rests: a new one, or one from a saved state. What was made is undone when a later step fails.
func build(cfg Config, memory func() (*ram, error), from *state) (_ *Board, err error) {
	b := &Board{done: make(chan struct{}), platform: platform{serial: serial{out: cfg.Console}}}
	defer func() {
		if err != nil {
			b.free()
		}
	}()
	sys, err := ioctl.NewSystem(cfg.KVM)
	if err != nil {
		return nil, err
	}
	defer sys.Close()
	if b.vm, err = createVM(sys, cfg.Memory); err != nil {
		return nil, err
	}
	if b.ram, err = memory(); err != nil {
		return nil, err
	}
	if err := b.addMemory(); err != nil {
		return nil, err
	}
	for i := range cfg.CPUs {
		c, err := createProcessor(b.vm, i)
		if err != nil {
			return nil, fmt.Errorf("processor %d: %w", i, err)
		}
		b.vcpus = append(b.vcpus, c)
	}
	if err := b.addInterrupts(); err != nil {
		return nil, err
	}
	if err := b.keepInMind(sys); err != nil {
		return nil, err
	}
	if from != nil {
		if err := b.restoreProcessors(from.Processors); err != nil {
			return nil, err
		}
	}
	if err := b.addDevices(cfg); err != nil {
		return nil, err
	}
	if from == nil {
		err = b.load(sys, cfg)
	} else if err = b.restoreDevices(from.Devices); err == nil {
		err = b.renew()
	}
	if err != nil {
		return nil, err
	}
	b.resting = from != nil
	b.cpus = startProcessors(b.vcpus, b.exit, func(err error) { b.finish(Crash, err) })
	go func() {
		<-b.done
		b.cpus.give(quit)
	}()
	return b, nil
}

func (b *Board) addMemory() (err error) {
	regions := splitRAM(b.ram.bytes)
	if b.memory, err = virtio.NewMemory(regions...); err != nil {
		return err
	}
	for i, r := range regions {
		if err := b.vm.SetMemory(i, r.Base, r.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// addDevices fills the slots. The order of the disks is that of their names in the guest.
func (b *Board) addDevices(cfg Config) error {
	b.vsock = virtio.NewVsock(virtio.VsockConfig{CID: GuestCID, Request: cfg.Stream})
	b.bus.base, b.bus.windows = slotBase, b.platform.windows()
	devices := []virtio.Device{
		virtio.NewConsole(cfg.Console), b.vsock, virtio.NewEntropy(rand.Reader), virtio.NewBalloon(b.ram.discard, false),
	}
	for i, d := range cfg.Disks {
		stack, err := openStack(d)
		if err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
		b.disks = append(b.disks, stack)
		block, err := virtio.NewBlock(virtio.BlockConfig{Disk: stack, Serial: fmt.Sprintf("disk%d", i)})
		if err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
		devices = append(devices, block)
	}
	if len(devices) > maxSlots {
		return fmt.Errorf("%d devices, at most %d", len(devices), maxSlots)
	}
	for i, dev := range devices {
		if err := b.addDevice(i, dev, cfg.Fault); err != nil {
			return fmt.Errorf("device %d: %w", i, err)
		}
	}
	return nil
}

func (b *Board) addDevice(slot int, dev virtio.Device, fault func(error)) error {
	// It must not block: KVM takes its value at once.
	irq, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	b.irqs = append(b.irqs, irq)
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	m, err := virtio.NewMMIO(dev, b.memory,
		func() { _, _ = unix.Write(irq, one[:]) },
		func(err error) { fault(fmt.Errorf("device %d (type %d): %w", slot, dev.Type(), err)) })
	if err != nil {
		return err
	}
	b.bus.slots = append(b.bus.slots, m)
	if err := b.vm.IRQFD(irq, slotGSI(slot)); err != nil {
		return err
	}
	for i, kick := range m.Kicks() {
		if err := b.vm.IOEventFD(kick, slotAddress(slot)+virtio.RegQueueNotify, uint32(i)); err != nil {
			return err
		}
	}
	return nil
}

func slotAddress(slot int) uint64 { return slotBase + uint64(slot)*slotSize }

// exit serves an exit of a processor, on its thread.
func (b *Board) exit(c *ioctl.VCPU) {
	switch c.ExitReason() {
	case ioctl.ExitMMIO:
		m := c.MMIO()
		b.bus.access(m.Addr, m.Data, m.Write)
	case ioctl.ExitSystemEvent:
		switch c.SystemEvent() {
		case ioctl.EventShutdown:
			b.finish(PowerOff, nil)
		case ioctl.EventReset:
			b.finish(Reboot, nil)
		default:
			b.finish(Crash, errors.New("the guest reported a crash"))
		}
	case ioctl.ExitIntr:
	default:
		if !b.platformExit(c) {
			b.finish(Crash, fmt.Errorf("processor %d: %s", c.ID(), c.Explain()))
		}
	}
}

func (b *Board) finish(end End, err error) {
	b.once.Do(func() {
		b.end, b.err = end, err
		close(b.done)
	})
}

// Done is closed when the machine has ended of itself; Ended says how.
func (b *Board) Done() <-chan struct{} { return b.done }

// Ended is valid once Done is closed. The error is that of a crash.
func (b *Board) Ended() (End, error) { return b.end, b.err }

// Dial opens a stream to a port of the guest; see virtio.Vsock.
func (b *Board) Dial(port uint32, done func(far *os.File, err error)) (cancel func()) {
	return b.vsock.Dial(port, done)
}

// Pause returns when no processor runs and no device is at work.
func (b *Board) Pause() {
	b.pausing.Lock()
	defer b.pausing.Unlock()
	b.rest()
}

// Resume lets all go on.
func (b *Board) Resume() {
	b.pausing.Lock()
	defer b.pausing.Unlock()
	b.goOn()
}

func (b *Board) rest() {
	b.cpus.pause()
	for _, s := range b.bus.slots {
		s.Pause()
	}
	b.resting = true
}

func (b *Board) goOn() {
	for _, s := range b.bus.slots {
		s.Resume()
	}
	b.cpus.resume()
	b.resting = false
}

// Close ends the machine at once and leaves nothing of it.
func (b *Board) Close() {
	b.finish(PowerOff, nil)
	b.cpus.stop()
	b.free()
}

// free undoes New, the last first: devices use memory, processors use the machine.
func (b *Board) free() {
	for _, s := range b.bus.slots {
		s.Close()
	}
	for _, d := range b.disks {
		d.Close()
	}
	for _, c := range b.vcpus {
		c.Close()
	}
	b.platform.close()
	if b.vm != nil {
		b.vm.Close()
	}
	for _, fd := range b.irqs {
		unix.Close(fd)
	}
	if b.ram != nil {
		b.ram.close()
	}
}
