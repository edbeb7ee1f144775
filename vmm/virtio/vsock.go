package virtio

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

var (
	// ErrRefused: nobody in the guest listens on the port that was dialed.
	ErrRefused = errors.New("vsock: connection refused")
	// ErrReset: the stream went with the driver's session, or the guest broke the protocol.
	ErrReset = errors.New("vsock: connection reset")
	// ErrStreams: there are as many streams as there may be.
	ErrStreams = errors.New("vsock: too many streams")
)

const (
	// maxVsockStreams bounds the streams that the guest has opened, and those that the host has.
	maxVsockStreams = 4096
	// maxRefusals bounds the resets that wait for a receive buffer and belong to no stream. At the bound no more packets are taken from the
	// guest until it gives receive buffers.
	maxRefusals = 256
	// firstVsockPort is where the host's own port numbers begin, and their number: apart from those that anyone listens on.
	firstVsockPort = 1 << 30
)

// VsockConfig is what a Vsock is made of.
type VsockConfig struct {
	// CID is the guest's (§5.10.4): 3 to 2³²−2.
	CID uint64
	// Request is called when the guest connects to a port of the host. far is the host's end of the stream, a blocking stream socket, and is the callee's from then
	// on; what is written to it before the decision is sent after it. decide is called once, at any time. Request must not block. When it is nil everything is refused.
	Request func(port uint32, far *os.File, decide func(accept bool))
}

// Vsock is a socket device (§5.10) with stream sockets. Each stream is a socketpair(2): the device moves bytes between one end and
// the guest, and whoever has the other end sees a socket. A stream has the host (CID 2) at one end and the guest at the other: there is no way to another machine,
// whatever addresses the guest makes up.
//
// Half-closes go both ways: shutdown(SHUT_WR) and io.EOF. Closing the far end closes the guest's; what was written before arrives, and a guest that goes on
// writing gets EPIPE. A guest's close ends the far end's reads with io.EOF after all that the guest wrote. A reset by the guest looks the same, since one end of
// a socketpair cannot make the other fail.
//
// A hostile guest costs at most: a bounded number of streams, for each the bytes that it was granted (see vsockStream), a bounded number of
// answers that it does not take. In Linux any program of the guest may connect to any port: who may do what is the host's to decide.
//
// Stop keeps the streams and their bytes; Reset ends them.
type Vsock struct {
	cfg VsockConfig

	mu       sync.Mutex // everything below; never held while a callback runs
	streams  map[vsockPorts]*vsockStream
	sockets  map[uint64]*vsockStream // by vsockStream.id; also those that the guest has closed and that are not written out yet
	lastID   uint64
	lastPort uint32
	closed   bool
	dialed   int                    // how many streams exist that the host has opened
	taken    int                    // and the guest
	classes  [len(vsockBuffers)]int // and how many of both have which buffer
	turn     []*vsockStream         // streams that have something for the guest, each once
	refusals []vsockHeader
	gate     gateState
	gateAt   uint16 // the event queue's available index when the event was sent
	calls    []func()
	spare    []byte // a buffer of the first class to be used again
	run      *vsockRun
}

// gateState is how far the guest has got with a transport reset.
type gateState uint8

const (
	gateOpen    gateState = iota
	gateEvent             // the event is still to be sent
	gateRefill            // sent, but the guest has not taken notice: it would reset streams that begin now
	gateInvalid           // the first value that is none
)

// NewVsock makes a device.
func NewVsock(cfg VsockConfig) *Vsock {
	return &Vsock{
		cfg: cfg, streams: map[vsockPorts]*vsockStream{}, sockets: map[uint64]*vsockStream{}, lastPort: firstVsockPort,
	}
}

// Type is the socket device.
func (v *Vsock) Type() uint32 { return typeVsock }

// Features: VIRTIO_VSOCK_F_STREAM (§5.10.3).
func (v *Vsock) Features() uint64 { return 1 << 0 }

// QueueSizes: receive, transmit, event (§5.10.2). Linux fills the first with buffers of a page each: as many as one stream has credit for would
// do, and some more for others.
func (v *Vsock) QueueSizes() []uint16 { return []uint16{128, 128, 16} }

// ReadConfig gives the guest's CID (§5.10.4).
func (v *Vsock) ReadConfig(p []byte, off uint64) {
	readConfig(p, binary.LittleEndian.AppendUint64(nil, v.cfg.CID), off)
}

// WriteConfig does nothing: there is nothing to write.
func (v *Vsock) WriteConfig([]byte, uint64) {}

// Dial connects to a port of the guest. done is called once, not from within Dial nor cancel, and must not block: with the host's
// end of the stream, a blocking stream socket that is the callee's from then on, or with an error. It waits for a guest that is not there yet or rests, until cancel.
func (v *Vsock) Dial(port uint32, done func(far *os.File, err error)) (cancel func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed || v.dialed >= maxVsockStreams {
		err := ErrStreams
		if v.closed {
			err = ErrReset
		}
		go done(nil, err)
		return func() {}
	}
	s := v.newStream(vsockPorts{host: v.nextPort(port), guest: port}, vsockDialing)
	s.done = done
	s.pending = sendRequest
	v.list(s)
	v.wakeUp()
	return func() { v.cancel(s) }
}

// nextPort is a port of the host that no stream to that port of the guest has. The count goes on after a reset and a restore, so that no number means two streams
// to the guest.
func (v *Vsock) nextPort(guest uint32) uint32 {
	for {
		v.lastPort = firstVsockPort | (v.lastPort+1)&(firstVsockPort-1)
		if v.streams[vsockPorts{v.lastPort, guest}] == nil {
			return v.lastPort
		}
	}
}

func (v *Vsock) cancel(s *vsockStream) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.state != vsockDialing {
		return
	}
	if s.requested {
		v.reset(s, context.Canceled)
	} else {
		v.drop(s, context.Canceled)
	}
	v.callLater()
	v.wakeUp()
}

func (v *Vsock) decide(s *vsockStream, accept bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.state != vsockDeciding {
		return
	}
	if accept {
		s.state = vsockOpen
		s.pending |= sendResponse
		v.list(s)
	} else {
		v.reset(s, nil)
	}
	v.wakeUp()
}

// wakeUp tells the worker of something to do.
func (v *Vsock) wakeUp() {
	if v.run != nil {
		v.run.wake.signal()
	}
}

// callLater makes the callbacks that are due, for one who is not the worker.
func (v *Vsock) callLater() {
	for _, f := range v.calls {
		go f()
	}
	v.calls = nil
}

// Reset ends all streams. Dials that the guest has not seen go on waiting for its next driver.
func (v *Vsock) Reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropAll(false)
	v.gate = gateOpen
	v.callLater()
}

// Close ends all streams and dials, for good. The device has stopped.
func (v *Vsock) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	v.dropAll(true)
	v.callLater()
}

// TransportReset ends all streams, and has the guest do the same before anything else reaches it (§5.10.6.7): it goes on in another
// place. The device has stopped.
func (v *Vsock) TransportReset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropAll(false)
	v.gate = gateEvent
	v.callLater()
}

// save and restore are of State, as JSON.
func (v *Vsock) save() []byte {
	b, err := json.Marshal(v.State())
	if err != nil {
		panic(err) // three numbers always can be
	}
	return b
}

// restore also resets: no stream goes on elsewhere.
func (v *Vsock) restore(b []byte) error {
	var s VsockState
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := v.Restore(s); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	v.TransportReset()
	return nil
}

// dropAll ends the streams; dials that the guest has not seen only if told so.
func (v *Vsock) dropAll(unseen bool) {
	all := v.turn
	v.turn, v.refusals = nil, nil
	for _, s := range all {
		if s.listed = false; s.state == vsockDialing && !unseen {
			v.list(s)
		}
	}
	for _, s := range v.streams {
		if !s.listed || s.state != vsockDialing {
			v.drop(s, ErrReset)
		}
	}
	for _, s := range v.sockets {
		v.drop(s, ErrReset)
	}
}

// VsockState is what is kept of a device besides its queues. Streams are not: see TransportReset.
type VsockState struct {
	LastPort uint32
	Gate     uint8
	GateAt   uint16
}

// State is what brings the device back. It must have stopped.
func (v *Vsock) State() VsockState {
	v.mu.Lock()
	defer v.mu.Unlock()
	return VsockState{v.lastPort, uint8(v.gate), v.gateAt}
}

// Restore is for a device that has not been started.
func (v *Vsock) Restore(s VsockState) error {
	if s.LastPort&^(2*firstVsockPort-1) != 0 || gateState(s.Gate) >= gateInvalid {
		return errors.New("vsock: saved state is not one")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lastPort, v.gate, v.gateAt = s.LastPort, gateState(s.Gate), s.GateAt
	return nil
}
