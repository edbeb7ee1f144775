package share

import (
	"errors"
	"io"
	"log"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"capsid/guest/share/pump"
)

// volume is one mounted file system: what outlives the stream it is served on.
type volume struct {
	files    *folder
	protocol *fuse.ProtocolServer
	began    []byte // the INIT request, by which a library that starts anew learns what was agreed upon
	recent   recent
	// gate is held for reading while a request is carried out and its answer noted, for writing while the state is taken.
	gate sync.RWMutex
	// panicked takes what the library recovered from. It changes only between streams.
	panicked func(any)
}

// newVolume serves files, as agreed upon in the INIT request began; answer gets the reply. It takes files over.
func newVolume(files *folder, began, answer []byte) (*volume, int) {
	v := &volume{files: files, began: append([]byte(nil), began...), panicked: func(any) {}}
	// What is set here must be the same after a restart, since the guest's kernel is not asked again: a change of it is a new stateVersion.
	v.protocol = fuse.NewProtocolServer(files, &fuse.MountOptions{
		MaxWrite:             pump.MaxData,
		MaxBackground:        maxBackground,
		EnableSymlinkCaching: true, // a link is never changed, only replaced
		// A truncating open is one message; set-user-ID bits are the host's kernel's to clear, so that the guest need not ask for a file's
		// capabilities at each write; names are listed with attributes only while somebody wants them.
		ExtraCapabilities:    fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_ALLOW_IDMAP,
		Logger:               log.New(io.Discard, "", 0), // it would let the guest write our log
		PanicHandler: func(p any) fuse.Status {
			v.panicked(p)
			return fuse.EIO
		},
	})
	n, _ := v.protocol.HandleRequest([][]byte{began}, [][]byte{answer})
	return v, n
}

// handle carries out one request, and notes what a change was answered.
func (v *volume) handle(m message, out []byte) int {
	v.gate.RLock()
	defer v.gate.RUnlock()
	n, _ := v.protocol.HandleRequest([][]byte{m.bytes}, [][]byte{out})
	if n >= headerOut && !repeatable(m.opcode) {
		v.recent.add(m.unique, out[:n])
	}
	return n
}

// volumes is the file system that the guest has mounted, if it has, and whether a stream serves it. A guest that mounts once more loses what it had unless
// that is being served: then it has two, of which the newer can be saved and resumed.
type volumes struct {
	open func() (*folder, error)

	mu      sync.Mutex
	current *volume
	stream  io.Closer     // that serves current, or nil
	idle    chan struct{} // closed when that stream has ended
}

// begin makes the file system that an INIT request asks for, and answers it.
func (s *volumes) begin(stream io.Closer, m message, answer []byte) (*volume, int, error) {
	files, err := s.open()
	if err != nil {
		return nil, 0, err
	}
	v, n := newVolume(files, m.bytes, answer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && s.stream == nil {
		s.current.files.close()
	}
	s.current = v
	s.attach(stream)
	return v, n, nil
}

var errNoVolume = errors.New("share: the guest wants to go on with a file system that is not here")

func (s *volumes) attach(stream io.Closer) { s.stream, s.idle = stream, make(chan struct{}) }

// resume gives the file system to another stream. The one that has it is dead to the guest, whether or not that is known here: it is ended, and what it was asked is
// done before another one asks.
func (s *volumes) resume(stream io.Closer) (*volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.current != nil && s.stream != nil {
		_ = s.stream.Close()
		idle := s.idle
		s.mu.Unlock()
		<-idle
		s.mu.Lock()
	}
	if s.current == nil {
		return nil, errNoVolume
	}
	s.attach(stream)
	return s.current, nil
}

// end is the end of a stream, after its last request. If keep the file system waits for another one.
func (s *volumes) end(v *volume, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.panicked = func(any) {}
	if v != s.current {
		v.files.close()
		return
	}
	if !keep {
		v.files.close()
		s.current = nil
	}
	s.stream = nil
	close(s.idle)
}

// close ends the file system; no stream may be left.
func (s *volumes) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.files.close()
		s.current = nil
	}
}

// maxRecent is more than the guest can have unanswered: answers are sent in the order in which they are noted but for those of the requests that are in progress
// at the same time.
const maxRecent = pump.MaxSent + maxRequests

// recent is the latest answers to requests that must not be carried out twice.
type recent struct {
	mu   sync.Mutex
	ring [maxRecent]answered
	next int
}

// answered is a reply and the number of its request; no request has the number 0.
type answered struct {
	unique uint64
	size   int
	reply  [maxFixed]byte
}

func (r *recent) add(unique uint64, reply []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.ring[r.next]
	a.unique, a.size = unique, copy(a.reply[:], reply)
	r.next = (r.next + 1) % maxRecent
}

// find returns a copy of the answer to a request, or nil.
func (r *recent) find(unique uint64) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ring {
		if a := &r.ring[i]; unique != 0 && a.unique == unique {
			return append([]byte(nil), a.reply[:a.size]...)
		}
	}
	return nil
}

// all returns those there are, the oldest first.
func (r *recent) all() []savedReply {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []savedReply
	for i := range maxRecent {
		if a := &r.ring[(r.next+i)%maxRecent]; a.unique != 0 {
			list = append(list, savedReply{a.unique, append([]byte(nil), a.reply[:a.size]...)})
		}
	}
	return list
}

// repeatable reports whether a request changes nothing, neither on the host nor in our tables, so that its answer, which may be long, is not noted.
// READDIRPLUS counts lookups; doing it twice makes us keep nodes longer.
func repeatable(opcode uint32) bool {
	switch opcode {
	case 3, 5, 15, 17, 22, 23, 28, 44, 46: // GETATTR READLINK READ STATFS GETXATTR LISTXATTR READDIR READDIRPLUS LSEEK
		return true
	}
	return false
}
