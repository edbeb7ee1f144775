package share

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"capsid/guest/share/pump"
)

const (
	// maxRequests are in progress at a time; the kernel sends no more than maxBackground of its own accord, and waits with the rest.
	maxRequests   = 64
	maxBackground = 48
	// maxMemory bounds the buffers of requests in progress.
	maxMemory = 32 << 20
)

// server answers the messages of one stream from one file system.
type server struct {
	stream   io.ReadWriteCloser
	protocol *fuse.ProtocolServer
	buffers  buffers
	memory   *semaphore.Weighted
	requests *semaphore.Weighted
	busy     sync.WaitGroup
	started  bool // INIT has been answered
	fault    atomic.Pointer[error]
	write    sync.Mutex
	log      io.Writer
}

// serve answers until the stream ends, which is nil, or breaks the protocol. It closes the stream; when it returns no request is in progress.
func serve(stream io.ReadWriteCloser, fs fuse.RawFileSystem, logTo io.Writer) error {
	s := &server{
		stream:   stream,
		memory:   semaphore.NewWeighted(maxMemory),
		requests: semaphore.NewWeighted(maxRequests),
		log:      logTo,
	}
	s.protocol = fuse.NewProtocolServer(fs, &fuse.MountOptions{
		MaxWrite:             pump.MaxData,
		MaxBackground:        maxBackground,
		EnableSymlinkCaching: true, // a link is never changed, only replaced
		// A truncating open is one message; set-user-ID bits are the host's kernel's to clear, so that the guest need not ask for a file's
		// capabilities at each write; names are listed with attributes only while somebody wants them.
		ExtraCapabilities:    fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_ALLOW_IDMAP,
		Logger:               log.New(io.Discard, "", 0), // it would let the guest write our log
		PanicHandler: func(p any) fuse.Status {
			s.panicked(p)
			return fuse.EIO
		},
	})
	err := s.loop()
	_ = stream.Close()
	s.busy.Wait()
	if fault := s.fault.Load(); fault != nil {
		return *fault
	}
	return err
}

// loop reads messages and starts their handling.
func (s *server) loop() error {
	r := bufio.NewReaderSize(s.stream, 64<<10)
	for {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			// What may follow an answer that nobody reads any more is an end too.
			if err == io.EOF || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.ECONNRESET) {
				return nil
			}
			return fmt.Errorf("share: read: %w", err)
		}
		n := binary.NativeEndian.Uint32(size[:])
		if n < headerIn || n > pump.MaxMessage {
			return fmt.Errorf("share: a message of %d bytes from the guest", n)
		}
		if err := s.take(r, size[:], int(n)); err != nil {
			return err
		}
	}
}

// take reads the rest of one message and handles it, or sees to it that it is.
func (s *server) take(r io.Reader, head []byte, size int) error {
	weight := int64(size)
	if err := s.memory.Acquire(context.Background(), weight); err != nil {
		return err
	}
	in := s.buffers.get(size)
	done := func() {
		s.buffers.put(in)
		s.memory.Release(weight) // by then that of the reply too
	}
	copy(in, head)
	if _, err := io.ReadFull(r, in[len(head):]); err != nil {
		done()
		return fmt.Errorf("share: read: %w", err)
	}
	m := parse(in)
	reply, errno := m.check()
	if errno == 0 && s.started == (m.opcode == opInit) {
		errno = unix.EPROTO // INIT comes first, and once
	}
	switch {
	case errno != 0:
		defer done()
		return s.refuse(m, errno)
	case m.silent():
		defer done()
		s.handle(m, nil) // quick, and nobody waits
		return nil
	case m.opcode == opInit:
		defer done()
		s.started = true
		return s.answer(m, reply)
	}
	// Only this goroutine takes, so what it waits for always comes back.
	if err := s.memory.Acquire(context.Background(), int64(reply)); err != nil {
		done()
		return err
	}
	weight += int64(reply)
	if err := s.requests.Acquire(context.Background(), 1); err != nil {
		done()
		return err
	}
	s.busy.Add(1)
	go func() {
		defer s.busy.Done()
		defer s.requests.Release(1)
		defer done()
		if err := s.answer(m, reply); err != nil {
			_ = s.stream.Close()
		}
	}()
	return nil
}

// answer handles a request and sends its reply.
func (s *server) answer(m message, reply int) error {
	out := s.buffers.get(reply)
	defer s.buffers.put(out)
	n := s.handle(m, out)
	if n < headerOut {
		return s.refuse(m, unix.EIO)
	}
	return s.send(out[:n])
}

// handle runs one request; the second wall against what the first let through ends the stream.
func (s *server) handle(m message, out []byte) (n int) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			n = 0
		}
	}()
	n, _ = s.protocol.HandleRequest([][]byte{m.bytes}, [][]byte{out})
	return n
}

func (s *server) panicked(p any) {
	err := fmt.Errorf("share: a request made us panic: %v", p)
	if s.fault.CompareAndSwap(nil, &err) {
		fmt.Fprintf(s.log, "%v\n%s", err, debug.Stack())
	}
	_ = s.stream.Close()
}

// refuse answers with an error alone.
func (s *server) refuse(m message, errno unix.Errno) error {
	if m.silent() {
		return nil
	}
	var out [headerOut]byte
	binary.NativeEndian.PutUint32(out[0:], headerOut)
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
	binary.NativeEndian.PutUint64(out[8:], m.unique)
	return s.send(out[:])
}

func (s *server) send(reply []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	if _, err := s.stream.Write(reply); err != nil {
		return fmt.Errorf("share: write: %w", err)
	}
	return nil
}

// buffers are kept in three sizes, for requests without data, for a usual read-ahead, and for the longest message.
type buffers [3]sync.Pool

func bufferSizes() [3]int { return [3]int{8 << 10, 132 << 10, pump.MaxMessage} }

func (b *buffers) get(size int) []byte {
	for i, most := range bufferSizes() {
		if size <= most {
			if p, ok := b[i].Get().(*[]byte); ok {
				return (*p)[:size]
			}
			return make([]byte, size, most)
		}
	}
	return make([]byte, size)
}

func (b *buffers) put(buf []byte) {
	for i, most := range bufferSizes() {
		if cap(buf) == most {
			buf = buf[:most]
			b[i].Put(&buf)
			return
		}
	}
}
