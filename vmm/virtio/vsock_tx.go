package virtio

import "golang.org/x/sys/unix"

// packet serves one packet of the guest.
func (v *Vsock) packet(c *Chain) {
	var raw [vsockHeaderSize]byte
	if Gather(raw[:], c.Readable, 0) < len(raw) {
		return // nobody to answer
	}
	h := parseVsock(&raw)
	if h.srcCID != v.cfg.CID {
		return // §5.10.6.4.2; an answer would go to another
	}
	if h.dstCID != hostCID || h.kind != vsockTypeStream {
		v.refuse(&h)
		return
	}
	s := v.streams[vsockPorts{host: h.dstPort, guest: h.srcPort}]
	switch {
	case s == nil && h.op == opRequest:
		v.requested(&h)
	case s == nil:
		v.refuse(&h)
	case h.op == opReset:
		v.drop(s, ErrRefused)
	default:
		s.granted(&h)
		if !v.operation(s, &h, c) {
			v.reset(s, ErrReset)
		}
		v.list(s)
	}
}

// refuse answers a packet with a reset, unless it is one.
func (v *Vsock) refuse(h *vsockHeader) {
	if h.op != opReset {
		v.refusals = append(v.refusals, h.refusal())
	}
}

// requested begins a stream that the guest opens.
func (v *Vsock) requested(h *vsockHeader) {
	port := h.dstPort
	if v.cfg.Request == nil || v.taken >= maxVsockStreams {
		v.refuse(h)
		return
	}
	s := v.newStream(vsockPorts{host: port, guest: h.srcPort}, vsockDeciding)
	s.granted(h)
	far, err := v.connect(s)
	if err != nil {
		v.reset(s, nil)
		return
	}
	v.calls = append(v.calls, func() { v.cfg.Request(port, far, func(accept bool) { v.decide(s, accept) }) })
}

// operation serves a packet of a stream. It is false when the packet has no place there.
func (v *Vsock) operation(s *vsockStream, h *vsockHeader, c *Chain) bool {
	if s.state == vsockDialing {
		if h.op != opResponse || !s.requested {
			return false
		}
		far, err := v.connect(s)
		if err != nil {
			v.reset(s, err)
			return true
		}
		s.state = vsockOpen
		done := s.done
		s.done = nil
		v.calls = append(v.calls, func() { done(far, nil) })
		return true
	}
	switch h.op {
	case opShutdown:
		v.guestShutsDown(s, h.flags&shutBoth)
	case opCreditUpdate:
	case opCreditRequest:
		s.pending |= sendCreditUpdate
	case opData:
		// Nobody takes what comes after the far end was closed: the guest goes on although it was told.
		if s.state != vsockOpen || s.guestShut&shutSend != 0 || int(h.length) > Len(c.Readable)-vsockHeaderSize {
			return false
		}
		if s.received-s.forwarded+h.length > s.alloc || h.length > s.alloc {
			return false // beyond its credit
		}
		v.accept(s, Cut(c.Readable, vsockHeaderSize, int(h.length)), int(h.length))
	default:
		return false
	}
	return true
}

// guestShutsDown notes what the guest will not do any more.
func (v *Vsock) guestShutsDown(s *vsockStream, flags uint32) {
	before := s.guestShut
	s.guestShut |= flags
	if s.guestShut == shutBoth {
		// §5.10.6.5: the reset says that the ports may be used again.
		v.refusals = append(v.refusals, v.resetOf(s))
		if s.buffer.len == 0 {
			v.drop(s, nil)
			return
		}
		v.forget(s)
		s.state = vsockFlushing
		return
	}
	if s.fd < 0 {
		return
	}
	switch s.guestShut &^ before {
	case shutReceive:
		s.ended = true
		unix.Shutdown(s.fd, unix.SHUT_RD)
		discard(s.fd)
		v.closeEnded(s)
	case shutSend:
		if s.buffer.len == 0 {
			unix.Shutdown(s.fd, unix.SHUT_WR)
		}
	}
}

// discard empties a socket whose far end cannot write any more. One that waits for room there would not be told otherwise.
func discard(fd int) {
	buf := make([]byte, 64<<10)
	for {
		if n, err := unix.Read(fd, buf); n <= 0 && err != unix.EINTR {
			return
		}
	}
}
