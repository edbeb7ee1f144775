package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// The frame of yamux (github.com/hashicorp/yamux, spec.md): version, type, flags (2), stream (4), length (4), big-endian,
// then length bytes if the type is data. A Mux adds the session's nonce.
const (
	headerSize = 12

	typeData         = 0
	typeWindowUpdate = 1

	flagSYN = 1
	flagACK = 2
	flagFIN = 4
	flagRST = 8

	// maxFrame bounds the data of one frame. Each costs an emulated guest a dozen switches between goroutines, so half of it would cost a third
	// of the throughput; twice of it gains nothing more.
	maxFrame = 64 << 10
	// window is the most that the peer may send on a stream before this side has read it; yamux holds the peer to it.
	window = 1 << 20
)

// limits bound what a hostile peer costs.
type limits struct {
	streams int // open streams that the peer opened; one more is reset
	// unread bounds the bytes of all streams that arrived and were not read. Beyond it a stream that has more than a frame of them is reset; beyond
	// twice as many the link ends.
	unread int64
	resets int // resets waiting to be sent; further ones are dropped
}

var defaultLimits = limits{streams: 16384, unread: 128 << 20, resets: 1024}

// ErrProtocol: the peer broke the framing or a limit that ends the link.
var ErrProtocol = errors.New("link: protocol violation")

// guard stands between the bytes of one session and yamux, reads every frame header that passes in either direction, and adds what yamux lacks: a bound on
// streams and on unread bytes, no pings, no frame without its whole body, and the reset of a single stream.
//
// yamux calls Read and Write from one goroutine each.
type guard struct {
	wire   *wire
	in     *bufio.Reader // of wire
	side   Side
	nonce  nonce
	peer   uint32 // the low bit of the numbers of streams that the peer opens
	limits limits

	// Of Read.
	begun bool   // the guest has answered the host's mark
	ready int    // bytes of a checked frame that are still to be handed to yamux
	made  []byte // a frame of our own making, to be handed to yamux first

	// Of Write.
	out []byte // a data frame's header that waits for its body; its array is used again

	mu      sync.Mutex
	streams map[uint32]*flow
	inbound int
	unread  int64
	local   []uint32        // streams to be reset on this side, as if the peer had done so
	remote  map[uint32]bool // streams to be reset on the peer's side
	wake    chan struct{}   // remote is not empty
	err     error           // the first fault
	closed  chan struct{}
	once    sync.Once
	done    sync.WaitGroup
}

// flow is what guard knows of one stream.
type flow struct {
	id        uint32
	inbound   bool
	answered  bool // an outbound stream whose SYN was acknowledged
	claimed   bool // a Conn counts its unread bytes down
	released  bool // its Conn was closed: further data is answered by a reset
	localFIN  bool
	remoteFIN bool
	unread    int
	orphan    *time.Timer
}

func newGuard(w *wire, side Side, n nonce, l limits) *guard {
	g := &guard{
		wire: w, in: w.in, side: side, nonce: n, limits: l,
		streams: map[uint32]*flow{}, remote: map[uint32]bool{},
		wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	// The host is yamux's client: its streams have odd numbers.
	if side == Guest {
		g.peer, g.begun = 1, true
	}
	g.done.Go(g.sendResets)
	return g
}

// Read hands whole, checked frames to yamux.
func (g *guard) Read(p []byte) (int, error) {
	for {
		if len(g.made) > 0 {
			n := copy(p, g.made)
			g.made = g.made[n:]
			return n, nil
		}
		if g.ready > 0 {
			n, err := g.in.Read(p[:min(len(p), g.ready)])
			if g.ready -= n; g.ready == 0 && err == nil {
				_, err = g.in.Discard(tailSize)
			}
			return n, err
		}
		if err := g.next(); err != nil {
			return 0, g.fail(err)
		}
	}
}

// next waits for a frame and decides on it. It looks at the whole frame before yamux sees its header, because yamux
// holds a stream's lock from the header to the last byte.
func (g *guard) next() error {
	if g.made = g.takeLocal(g.made[:0]); len(g.made) > 0 {
		return nil
	}
	if !g.begun {
		if err := g.wire.answered(g.nonce); err != nil {
			return err
		}
		g.begun = true
	}
	hdr, err := g.in.Peek(headerSize)
	if err != nil {
		if err == io.EOF && len(hdr) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	f, err := parseFrame(hdr)
	if err != nil {
		return g.broken(err)
	}
	size := headerSize + f.body()
	whole, err := g.in.Peek(size + tailSize)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	if nonce(whole[size:]) != g.nonce {
		return g.broken(fmt.Errorf("%w: frame of another session", ErrProtocol))
	}
	pass, err := g.admit(f)
	if err != nil {
		return err
	}
	if !pass {
		_, err := g.in.Discard(size + tailSize)
		return err
	}
	g.ready = size
	return nil
}

// errAnew ends a session of the guest's, which begins anew with the host that is there now.
var errAnew = errors.New("link: another host")

// broken says what bytes mean that are no frame.
func (g *guard) broken(err error) error {
	if g.side == Guest {
		return errAnew
	}
	return err
}

// anew says whether the session has ended because the host is another.
func (g *guard) anew() bool { return g.fault() == errAnew }

// takeLocal makes the frames that reset streams on this side.
func (g *guard) takeLocal(b []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range g.local {
		b = frame{kind: typeWindowUpdate, flags: flagRST, id: id}.append(b)
	}
	g.local = nil
	return b
}

// Write takes the header and the body of a frame in two calls, as yamux makes them, and writes them at once.
func (g *guard) Write(p []byte) (int, error) {
	if len(g.out) == 0 {
		f, err := parseHeader(p)
		if err != nil {
			return 0, err
		}
		g.sent(f)
		if f.body() > 0 {
			g.out = append(g.out, p...)
			return len(p), nil
		}
	}
	g.out = append(append(g.out, p...), g.nonce[:]...)
	err := g.write(g.out)
	g.out = g.out[:0]
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (g *guard) write(b []byte) error {
	select {
	case <-g.closed:
		return ErrClosed
	default:
	}
	if err := g.wire.write(b); err != nil {
		return g.fail(err)
	}
	return nil
}

// sendResets writes resets from a goroutine of its own: neither the reader, which must go on for the peer to be able to, nor one who closes a
// stream may wait for the peer to read.
func (g *guard) sendResets() {
	for {
		select {
		case <-g.closed:
			return
		case <-g.wake:
		}
		g.mu.Lock()
		var b []byte
		for id := range g.remote {
			b = append(frame{kind: typeWindowUpdate, flags: flagRST, id: id}.append(b), g.nonce[:]...)
		}
		clear(g.remote)
		g.mu.Unlock()
		if len(b) > 0 && g.write(b) != nil {
			return
		}
	}
}

// Close ends the session, and the bytes in both directions unless another session follows.
func (g *guard) Close() error {
	var err error
	g.once.Do(func() {
		close(g.closed)
		if !g.anew() {
			err = g.wire.close()
		}
	})
	return err
}

// fail records the first fault and returns it.
func (g *guard) fail(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	return err
}

func (g *guard) fault() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// frame is a header.
type frame struct {
	kind   byte
	flags  uint16
	id     uint32
	length uint32
}

func (f frame) body() int {
	if f.kind == typeData {
		return int(f.length)
	}
	return 0
}

func (f frame) append(b []byte) []byte {
	b = append(b, 0, f.kind)
	b = binary.BigEndian.AppendUint16(b, f.flags)
	b = binary.BigEndian.AppendUint32(b, f.id)
	return binary.BigEndian.AppendUint32(b, f.length)
}

func parseHeader(b []byte) (frame, error) {
	if len(b) != headerSize {
		return frame{}, fmt.Errorf("%w: header of %d bytes", ErrProtocol, len(b))
	}
	return frame{
		kind:   b[1],
		flags:  binary.BigEndian.Uint16(b[2:]),
		id:     binary.BigEndian.Uint32(b[4:]),
		length: binary.BigEndian.Uint32(b[8:]),
	}, nil
}

// parseFrame accepts the frames that a Mux sends, which are fewer than yamux knows: no pings, since a link may rest for days, and no
// go-away, since a link ends by being closed.
func parseFrame(b []byte) (frame, error) {
	f, err := parseHeader(b)
	if err != nil {
		return f, err
	}
	allowed := uint16(0)
	switch f.kind {
	case typeData:
		allowed = flagACK
		if f.length > maxFrame {
			return f, fmt.Errorf("%w: %d bytes of data in a frame", ErrProtocol, f.length)
		}
	case typeWindowUpdate:
		allowed = flagSYN | flagACK | flagFIN | flagRST
		if f.flags&flagSYN != 0 {
			allowed = flagSYN
		}
		if f.length > window {
			return f, fmt.Errorf("%w: window grows by %d", ErrProtocol, f.length)
		}
	default:
		return f, fmt.Errorf("%w: frame of type %d", ErrProtocol, f.kind)
	}
	if b[0] != 0 || f.flags&^allowed != 0 || f.id == 0 {
		return f, fmt.Errorf("%w: version %d, type %d, flags %#x, stream %d", ErrProtocol, b[0], f.kind, f.flags, f.id)
	}
	return f, nil
}
