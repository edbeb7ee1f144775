package virtio

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The queues (§5.10.2).
const (
	vsockRX = iota
	vsockTX
	vsockEvents
)

// What epoll calls the worker's own descriptors. Streams have other numbers: they count from 1.
const (
	keyWake = ^uint64(0) - iota
	keyRX
	keyTX
	keyEvents
)

// vsockRun is the device's work from a Start to its Stop: one goroutine that waits for queues and sockets alike.
type vsockRun struct {
	v       *Vsock
	queues  []*Queue
	fail    func(error)
	epoll   int
	wake    *event
	stop    bool // under v.mu
	stopped chan struct{}

	buffers rxBuffers
	pieces  [][]byte // of one read
	packet  Chain    // of the guest
}

// Start begins work.
func (v *Vsock) Start(with Running) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := &vsockRun{v: v, queues: with.Queues, fail: with.Fail, stopped: make(chan struct{})}
	if r.queues[vsockRX] == nil || r.queues[vsockTX] == nil {
		with.Fail(fmt.Errorf("%w: a socket device without its queues", ErrRing))
		return
	}
	r.buffers.q = r.queues[vsockRX]
	if err := r.open(); err != nil {
		with.Fail(fmt.Errorf("vsock: %w", err))
		return
	}
	v.run = r
	go r.work()
}

func (r *vsockRun) open() error {
	var err error
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if r.wake, err = newEvent(); err != nil {
		unix.Close(r.epoll)
		return err
	}
	err = r.add(r.wake.fd, unix.EPOLL_CTL_ADD, unix.EPOLLIN, keyWake)
	for i, key := range []uint64{vsockRX: keyRX, vsockTX: keyTX, vsockEvents: keyEvents} {
		if q := r.queues[i]; q != nil && err == nil {
			err = r.add(q.kick.fd, unix.EPOLL_CTL_ADD, unix.EPOLLIN, key)
		}
	}
	for _, s := range r.v.sockets {
		if err == nil {
			err = r.watch(s, unix.EPOLL_CTL_ADD)
		}
	}
	if err != nil {
		r.close()
	}
	return err
}

func (r *vsockRun) close() {
	unix.Close(r.epoll)
	r.wake.close()
}

func (r *vsockRun) add(fd, how int, events uint32, key uint64) error {
	if err := unix.EpollCtl(r.epoll, how, fd, &unix.EpollEvent{Events: events, Fd: int32(key), Pad: int32(key >> 32)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// watch has epoll tell once when there is something to read, and when there is room for what is to be written.
func (r *vsockRun) watch(s *vsockStream, how int) error {
	events := uint32(unix.EPOLLIN | unix.EPOLLET)
	if s.buffer.len > 0 {
		events |= unix.EPOLLOUT
	}
	return r.add(s.fd, how, events, s.id)
}

// Stop ends work. The streams stay.
func (v *Vsock) Stop() {
	v.mu.Lock()
	r := v.run
	if r == nil {
		v.mu.Unlock()
		return
	}
	r.stop = true
	r.wake.signal()
	v.mu.Unlock()
	<-r.stopped
	v.mu.Lock()
	defer v.mu.Unlock()
	v.run = nil
	r.close()
}

// work is the worker.
func (r *vsockRun) work() {
	defer close(r.stopped)
	v := r.v
	var events [64]unix.EpollEvent
	for again := true; ; {
		timeout := -1
		if again {
			timeout = 0
		}
		n, err := unix.EpollWait(r.epoll, events[:], timeout)
		if err != nil && err != unix.EINTR {
			r.fail(fmt.Errorf("vsock: epoll: %w", err))
			return
		}
		v.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			r.happened(uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32, e.Events)
		}
		if r.stop {
			err = nil
		} else {
			again, err = r.step()
		}
		if err != nil {
			v.dropAll(false) // nobody will serve them
		}
		if err != nil || r.stop {
			r.buffers.putBack()
		}
		for _, q := range r.queues {
			if q != nil {
				q.Signal()
			}
		}
		stop, calls := r.stop, v.calls
		v.calls = nil
		v.mu.Unlock()
		for _, f := range calls {
			f()
		}
		if err != nil {
			r.fail(err)
		}
		if err != nil || stop {
			return
		}
	}
}

// happened serves what epoll tells.
func (r *vsockRun) happened(key uint64, events uint32) {
	switch key {
	case keyWake:
		r.wake.wait()
	case keyRX, keyTX, keyEvents:
		r.queues[keyRX-key].Wait() // does not block: nobody else reads it
	default:
		s := r.v.sockets[key]
		if s == nil {
			return // it went between
		}
		s.readable = s.readable || events&^unix.EPOLLOUT != 0
		if events&unix.EPOLLOUT != 0 {
			r.v.flush(s)
		}
		if events&unix.EPOLLHUP != 0 && s.fd >= 0 {
			r.v.hangUp(s)
		}
		r.v.list(s)
	}
}

// step does what can be done now. It is to be called again at once when that was not all; else the queues are armed.
func (r *vsockRun) step() (again bool, err error) {
	v := r.v
	open, err := r.passGate()
	if err != nil {
		return false, err
	}
	again, held, err := r.transmit()
	if err != nil {
		return false, err
	}
	if open {
		more, starved, err := r.deliver()
		if err != nil {
			return false, err
		}
		if starved && r.queues[vsockRX].Rearm() {
			more = true
		}
		again = again || more
	}
	switch {
	case held:
		again = again || len(v.refusals) < maxRefusals
	case !again:
		again = r.queues[vsockTX].Rearm()
	}
	return again, nil
}

// transmit serves packets of the guest, but not for ever. held: it has to take answers first.
func (r *vsockRun) transmit() (more, held bool, err error) {
	c := &r.packet
	for range 64 {
		if len(r.v.refusals) >= maxRefusals {
			return false, true, nil
		}
		ok, err := r.queues[vsockTX].Pop(c)
		if !ok || err != nil {
			return false, false, err
		}
		r.v.packet(c)
		r.queues[vsockTX].Push(c.Head, 0)
	}
	return true, false, nil
}

// passGate says whether the guest may be sent anything: after a transport reset not before it knows.
func (r *vsockRun) passGate() (bool, error) {
	v, q := r.v, r.queues[vsockEvents]
	if v.gate == gateOpen {
		return true, nil
	}
	if q == nil {
		v.gate = gateOpen // such a driver cannot be told
		return true, nil
	}
	for v.gate == gateEvent {
		var c Chain
		ok, err := q.Pop(&c)
		switch {
		case err != nil:
			return false, err
		case ok:
			// struct virtio_vsock_event with VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, which is 0 (§5.10.6.7).
			n := Scatter(c.Writable, make([]byte, 4), 0)
			q.Push(c.Head, uint32(n))
			v.gate, v.gateAt = gateRefill, offered(q)
		case !q.Rearm():
			return false, nil
		}
	}
	// Linux gives the buffer back when it has reset its streams (net/vmw_vsock/virtio_transport.c, virtio_transport_event_work).
	if q.eventIdx {
		q.setAvailEvent(v.gateAt)
	}
	if offered(q) == v.gateAt {
		return false, nil
	}
	v.gate = gateOpen
	return true, nil
}

// offered counts the requests that the driver has ever made.
func offered(q *Queue) uint16 { return uint16(q.availWord.Load() >> 16) }
