package virtio

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// vsockPorts names a stream: there is one host and one guest.
type vsockPorts struct{ host, guest uint32 }

type vsockStreamState uint8

const (
	vsockDialing  vsockStreamState = iota // the host has asked, or will, and the guest has not answered
	vsockDeciding                         // the guest has asked, and the host has not answered
	vsockOpen
	vsockClosing  // the host's end is gone; the guest is to say that its own is
	vsockFlushing // the guest's end is gone and the ports are free; the host has not taken all that the guest wrote
	vsockGone
)

// What a stream is to send to the guest beside data.
const (
	sendRequest = 1 << iota
	sendResponse
	sendShutdown
	sendCreditUpdate
	sendCreditRequest
)

// vsockBuffers is how many bytes the guest may send that the host's end has not taken, and how many streams have as much: those
// that begin while there are few. All that the guest may open have less than 112 MiB together. Each time that it is told of half of
// its credit costs a guest two changes of threads on the host, hence the size of the first; Linux takes as much when it is asked to
// (SO_VM_SOCKETS_BUFFER_SIZE), and 256 KiB otherwise.
var vsockBuffers = [...]struct{ size, streams int }{{1 << 20, 16}, {256 << 10, 128}, {smallBuffer, 2 * maxVsockStreams}}

// smallBuffer bounds what waits in the socket as well.
const smallBuffer = 16 << 10

// vsockStream is one stream. What the guest sends goes to the socket at once, or is kept in buffer as far as the socket does not take it: at most alloc bytes, the
// credit that the guest has. What the host sends stays in the socket until the guest has credit and buffers.
type vsockStream struct {
	id     uint64
	ports  vsockPorts
	state  vsockStreamState
	dialed bool
	done   func(*os.File, error) // of a dial

	fd       int  // our end, nonblocking; -1 while there is none
	readable bool // it may be read
	ended    bool // it was read to its end
	hungUp   bool // the far end will neither write nor read
	deaf     bool // the far end will not read

	pending   uint8
	listed    bool   // it is in Vsock.turn
	requested bool   // its request is in the guest's hands
	shut      uint32 // flags of our shutdown
	guestShut uint32 // of the guest's

	// From the guest. Counts of bytes wrap, as those on the wire do.
	class               int // in vsockBuffers
	alloc               uint32
	received, forwarded uint32
	told                uint32 // forwarded as the guest knows it
	buffer              ring

	// To the guest.
	sent                      uint32
	peerAlloc, peerForwarded  uint32
	creditAsked, creditOffers bool // the guest was asked for credit; it has told of some without being asked
}

func (v *Vsock) newStream(ports vsockPorts, state vsockStreamState) *vsockStream {
	v.lastID++
	s := &vsockStream{id: v.lastID, ports: ports, state: state, dialed: state == vsockDialing, fd: -1}
	for v.classes[s.class] == vsockBuffers[s.class].streams {
		s.class++
	}
	v.classes[s.class]++
	s.alloc = uint32(vsockBuffers[s.class].size)
	if s.dialed {
		v.dialed++
	} else {
		v.taken++
	}
	v.streams[ports] = s
	return s
}

// connect makes the stream's sockets and returns the far one.
func (v *Vsock) connect(s *vsockStream) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	err = unix.SetNonblock(pair[0], true)
	if err == nil && s.alloc == smallBuffer {
		err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, smallBuffer)
	}
	s.fd = pair[0]
	if err == nil {
		err = v.run.watch(s, unix.EPOLL_CTL_ADD)
	}
	if err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		s.fd = -1
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	v.sockets[s.id] = s
	return os.NewFile(uintptr(pair[1]), "vsock"), nil
}

// closeSocket gives up the host's end and what it has not taken.
func (v *Vsock) closeSocket(s *vsockStream) {
	if s.fd >= 0 {
		unix.Close(s.fd) // the only descriptor of its file, so epoll forgets it
		s.fd = -1
		delete(v.sockets, s.id)
	}
	v.giveBack(s)
}

// giveBack frees the stream's buffer.
func (v *Vsock) giveBack(s *vsockStream) {
	if s.class == 0 && s.buffer.bytes != nil {
		v.spare = s.buffer.bytes
	}
	s.buffer = ring{}
}

// forget frees the stream's ports, and takes from the guest nothing more for it.
func (v *Vsock) forget(s *vsockStream) {
	if v.streams[s.ports] == s {
		delete(v.streams, s.ports)
	}
	if s.listed {
		s.listed = false
		v.turn = slices.DeleteFunc(v.turn, func(t *vsockStream) bool { return t == s })
	}
	s.pending = 0
}

// drop ends a stream without a word to the guest.
func (v *Vsock) drop(s *vsockStream, err error) {
	if s.state == vsockGone {
		return
	}
	v.forget(s)
	v.closeSocket(s)
	s.state = vsockGone
	v.classes[s.class]--
	if s.dialed {
		v.dialed--
	} else {
		v.taken--
	}
	if done := s.done; done != nil {
		s.done = nil
		v.calls = append(v.calls, func() { done(nil, err) })
	}
}

// reset ends a stream on both sides.
func (v *Vsock) reset(s *vsockStream, err error) {
	v.refusals = append(v.refusals, v.resetOf(s)) // bounded: each was a stream
	v.drop(s, err)
}

func (v *Vsock) resetOf(s *vsockStream) vsockHeader {
	return vsockHeader{
		srcCID: hostCID, dstCID: v.cfg.CID, srcPort: s.ports.host, dstPort: s.ports.guest, kind: vsockTypeStream, op: opReset,
	}
}

// header begins a packet of the stream. It tells the guest of its credit.
func (v *Vsock) header(s *vsockStream, op uint16) vsockHeader {
	s.told = s.forwarded
	s.pending &^= sendCreditUpdate
	return vsockHeader{
		srcCID: hostCID, dstCID: v.cfg.CID, srcPort: s.ports.host, dstPort: s.ports.guest,
		kind: vsockTypeStream, op: op, bufAlloc: s.alloc, fwdCnt: s.forwarded,
	}
}

// list gives the stream a turn if it has something for the guest.
func (v *Vsock) list(s *vsockStream) {
	if s.state == vsockDeciding || s.state >= vsockFlushing {
		return
	}
	if s.askCredit(); !s.listed && (s.pending != 0 || s.mayRead()) {
		s.listed = true
		v.turn = append(v.turn, s)
	}
}

// credit is how many bytes the guest takes. A guest that counts wrong has none.
func (s *vsockStream) credit() int {
	if used := s.sent - s.peerForwarded; used < s.peerAlloc {
		return int(s.peerAlloc - used)
	}
	return 0
}

// mayRead says whether the socket is worth a read: it may have something, or its end, and the guest can take it.
func (s *vsockStream) mayRead() bool {
	return s.state == vsockOpen && s.readable && !s.ended && s.credit() > 0
}

// granted notes the guest's credit, which every packet tells (§5.10.6.3).
func (s *vsockStream) granted(h *vsockHeader) {
	s.peerAlloc, s.peerForwarded = h.bufAlloc, h.fwdCnt
	if h.op == opCreditUpdate && !s.creditAsked {
		s.creditOffers = true
	}
	if s.credit() > 0 {
		s.creditAsked = false
		s.pending &^= sendCreditRequest
	}
}

// askCredit asks a guest for credit that has never told of any by itself: one that waits to be asked would wait for ever. Linux tells as its
// programs read, and need not be bothered.
func (s *vsockStream) askCredit() {
	if s.state == vsockOpen && s.readable && !s.ended && s.credit() == 0 && !s.creditAsked && !s.creditOffers {
		s.creditAsked = true
		s.pending |= sendCreditRequest
	}
}

// accept hands bytes of the guest to the host's end. They are within the credit.
func (v *Vsock) accept(s *vsockStream, buffers [][]byte, n int) {
	s.received += uint32(n)
	off := 0
	if !s.deaf && s.buffer.len == 0 && s.state == vsockOpen {
		off = v.write(s, buffers)
	}
	if s.deaf {
		s.forwarded = s.received
		return
	}
	if s.forwarded += uint32(off); off < n {
		if s.buffer.bytes == nil {
			s.buffer.bytes = v.newBuffer(s)
		}
		wasEmpty := s.buffer.len == 0
		s.buffer.put(buffers, off)
		if wasEmpty {
			v.watch(s)
		}
	}
	v.tell(s)
}

func (v *Vsock) newBuffer(s *vsockStream) []byte {
	if b := v.spare; b != nil && s.class == 0 {
		v.spare = nil
		return b
	}
	return make([]byte, s.alloc)
}

// tell has the guest know of its credit when half of it was taken up since it was told last. The other half keeps it busy meanwhile; and at the end of its
// credit more than half was taken, or is in the buffer and will be.
func (v *Vsock) tell(s *vsockStream) {
	if s.forwarded-s.told >= s.alloc/2 && s.guestShut&shutSend == 0 {
		s.pending |= sendCreditUpdate
		v.list(s)
	}
}

// write writes what the socket takes. If the far end has closed, the stream is deaf afterwards.
func (v *Vsock) write(s *vsockStream, buffers [][]byte) int {
	for {
		n, err := unix.SendmsgBuffers(s.fd, buffers, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return n
		case unix.EINTR:
		case unix.EAGAIN:
			return 0
		default:
			v.deafen(s)
			return 0
		}
	}
}

// flush goes on with what the socket did not take.
func (v *Vsock) flush(s *vsockStream) {
	if s.buffer.len == 0 {
		return
	}
	for s.buffer.len > 0 && !s.deaf {
		n := v.write(s, s.buffer.parts())
		if n == 0 {
			break
		}
		s.buffer.drop(n)
		s.forwarded += uint32(n)
	}
	if s.buffer.len == 0 || s.deaf {
		v.flushed(s)
	}
	v.tell(s)
}

// flushed: nothing waits for the socket any more.
func (v *Vsock) flushed(s *vsockStream) {
	v.giveBack(s)
	if s.state == vsockFlushing {
		v.drop(s, nil)
		return
	}
	v.watch(s)
	if s.guestShut&shutSend != 0 {
		unix.Shutdown(s.fd, unix.SHUT_WR)
	}
}

// watch follows the buffer: only while it holds something it matters whether the socket takes more.
func (v *Vsock) watch(s *vsockStream) {
	if v.run.watch(s, unix.EPOLL_CTL_MOD) != nil {
		v.reset(s, nil) // the kernel lacks memory
	}
}

// deafen: the far end reads no more. What the guest has sent goes nowhere, and it is told to stop.
func (v *Vsock) deafen(s *vsockStream) {
	if s.deaf {
		return
	}
	s.deaf = true
	s.forwarded = s.received
	if s.guestShut&shutSend == 0 {
		s.shutDown(shutReceive)
		v.list(s)
	}
}

func (s *vsockStream) shutDown(flags uint32) {
	if s.shut|flags != s.shut {
		s.shut |= flags
		s.pending |= sendShutdown
	}
}

// hangUp: the far end is closed, or both directions are.
func (v *Vsock) hangUp(s *vsockStream) {
	s.hungUp, s.readable = true, true
	v.deafen(s)
	if s.buffer.len > 0 {
		v.flushed(s)
	}
	v.closeEnded(s)
	v.list(s)
}

// closeEnded lets go of a socket that is done with in both directions.
func (v *Vsock) closeEnded(s *vsockStream) {
	if s.ended && s.hungUp && s.state == vsockOpen {
		s.state = vsockClosing
		v.closeSocket(s)
		s.shutDown(shutBoth)
	}
}
