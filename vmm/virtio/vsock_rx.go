package virtio

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// vsockQuantum bounds what one stream may read before it is the next one's turn.
	vsockQuantum = 64 << 10
	// maxPieces is IOV_MAX of Linux (include/uapi/linux/uio.h).
	maxPieces = 1024
)

// rxBuffers are receive buffers of the guest that were taken from the queue and not used yet: one read may fill several.
type rxBuffers struct {
	q           *Queue
	chains      [vsockQuantum / 2048]Chain
	first, have int
}

// at is the i-th buffer; false if the guest has not given as many.
func (b *rxBuffers) at(i int) (*Chain, bool, error) {
	for b.have <= i {
		if b.have == len(b.chains) {
			return nil, false, nil
		}
		c := &b.chains[(b.first+b.have)%len(b.chains)]
		if ok, err := b.q.Pop(c); !ok || err != nil {
			return nil, false, err
		}
		if n := Len(c.Writable); n <= vsockHeaderSize {
			return nil, false, fmt.Errorf("%w: receive buffer of %d bytes", ErrRing, n)
		}
		b.have++
	}
	return &b.chains[(b.first+i)%len(b.chains)], true, nil
}

// send uses the first buffer for a packet, whose payload is in it already.
func (b *rxBuffers) send(h *vsockHeader) {
	c := &b.chains[b.first]
	raw := h.bytes()
	Scatter(c.Writable, raw[:], 0)
	b.q.Push(c.Head, vsockHeaderSize+h.length)
	b.first = (b.first + 1) % len(b.chains)
	b.have--
}

// putBack returns to the queue what was not used: the buffers that were taken last.
func (b *rxBuffers) putBack() {
	for ; b.have > 0; b.have-- {
		b.q.Undo()
	}
}

// deliver fills receive buffers until the guest has no more of them (then starved is true) or there is nothing for it (then more is
// false), but not for ever.
func (r *vsockRun) deliver() (more, starved bool, err error) {
	v := r.v
	for range 64 {
		if len(v.refusals) == 0 && len(v.turn) == 0 {
			return false, false, nil
		}
		if _, ok, err := r.buffers.at(0); !ok || err != nil {
			return false, err == nil, err
		}
		if len(v.refusals) > 0 {
			r.buffers.send(&v.refusals[0])
			v.refusals = v.refusals[1:]
			continue
		}
		s := v.turn[0]
		v.turn = v.turn[1:]
		s.listed = false
		if err := r.serve(s); err != nil {
			return false, false, err
		}
		v.list(s)
	}
	return true, false, nil
}

// serve sends one packet of a stream, or what one read gives. There is a buffer.
func (r *vsockRun) serve(s *vsockStream) error {
	v := r.v
	op := uint16(0)
	switch {
	case s.pending&sendRequest != 0:
		s.pending &^= sendRequest
		s.requested = true
		op = opRequest
	case s.pending&sendResponse != 0:
		s.pending &^= sendResponse
		op = opResponse
	case s.pending&sendShutdown != 0: // not to send is not said before all was read
		s.pending &^= sendShutdown
		h := v.header(s, opShutdown)
		h.flags = s.shut
		r.buffers.send(&h)
		return nil
	case s.mayRead():
		return r.read(s)
	case s.pending&sendCreditRequest != 0:
		s.pending &^= sendCreditRequest
		op = opCreditRequest
	case s.pending&sendCreditUpdate != 0:
		op = opCreditUpdate
	default:
		return nil
	}
	h := v.header(s, op)
	r.buffers.send(&h)
	return nil
}

// read reads the socket into as many receive buffers as the stream's credit and turn let it.
func (r *vsockRun) read(s *vsockStream) error {
	limit := min(s.credit(), vsockQuantum)
	pieces, room := r.pieces[:0], 0
	for i := 0; room < limit; i++ {
		c, ok, err := r.buffers.at(i)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		part := Cut(c.Writable, vsockHeaderSize, limit-room)
		if len(pieces)+len(part) > maxPieces {
			break
		}
		pieces = append(pieces, part...)
		room += Len(part)
	}
	n, err := unix.Readv(s.fd, pieces)
	clear(pieces)
	r.pieces = pieces
	switch {
	case err == unix.EINTR:
	case err == unix.EAGAIN:
		s.readable = false
	case err != nil:
		// ECONNRESET: the far end was closed before it had read all. The guest has had what came before.
		r.v.reset(s, ErrReset)
	case n == 0:
		s.ended = true
		s.shutDown(shutSend)
		r.v.closeEnded(s)
	}
	for n > 0 {
		c, _, _ := r.buffers.at(0)
		h := r.v.header(s, opData)
		h.length = uint32(min(n, Len(c.Writable)-vsockHeaderSize))
		r.buffers.send(&h)
		s.sent += h.length
		n -= int(h.length)
	}
	return nil
}
