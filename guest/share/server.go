package share

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

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

// server answers the messages of one stream.
type server struct {
	stream   io.ReadWriteCloser
	volumes  *volumes
	volume   *volume // nil before INIT or Resume
	again    uint32  // of the next requests so many were sent on another stream before
	over     bool    // the guest is done with the file system, or made it break
	buffers  buffers
	memory   *semaphore.Weighted
	requests *semaphore.Weighted
	busy     sync.WaitGroup
	fault    atomic.Pointer[error]
	write    sync.Mutex
	log      io.Writer
}

// serve answers until the stream ends, which is nil, or breaks the protocol. It closes the stream; when it returns no request is in progress. A file
// system whose stream has merely ended stays with from, to be resumed.
func serve(stream io.ReadWriteCloser, from *volumes, logTo io.Writer) error {
	s := &server{
		stream:   stream,
		volumes:  from,
		memory:   semaphore.NewWeighted(maxMemory),
		requests: semaphore.NewWeighted(maxRequests),
		log:      logTo,
	}
	err := s.loop()
	_ = stream.Close()
	s.busy.Wait()
	fault := s.fault.Load()
	if s.volume != nil {
		from.end(s.volume, !s.over && fault == nil)
	}
	if fault != nil {
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
			s.over = true
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
	first := m.opcode == opInit || m.opcode == pump.Resume
	if errno == 0 && first == (s.volume != nil) {
		errno = unix.EPROTO // one of them comes first, and once
	}
	switch {
	case errno != 0:
		defer done()
		return s.refuse(m, errno)
	case m.silent():
		defer done()
		s.handle(m, nil) // quick, and nobody waits
		return nil
	case first:
		defer done()
		return s.begin(m)
	case m.opcode == pump.Barrier:
		defer done()
		s.busy.Wait()
		return s.refuse(m, 0)
	}
	s.over = s.over || m.opcode == opDestroy
	if s.again > 0 {
		s.again--
		if reply := s.volume.recent.find(m.unique); reply != nil {
			defer done()
			return s.send(reply)
		}
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

// begin finds the file system that the stream is for, and answers the message that says which.
func (s *server) begin(m message) error {
	if m.opcode == opInit {
		var out [maxFixed]byte
		v, n, err := s.volumes.begin(s.stream, m, out[:])
		if err != nil {
			return fmt.Errorf("share: %w", err)
		}
		s.volume, v.panicked = v, s.panicked
		if n < headerOut {
			return s.refuse(m, unix.EIO)
		}
		return s.send(out[:n])
	}
	v, err := s.volumes.resume(s.stream)
	if err != nil {
		_ = s.refuse(m, unix.ESTALE)
		return err
	}
	s.volume, v.panicked = v, s.panicked
	s.again = binary.NativeEndian.Uint32(m.bytes[headerIn+4:])
	return s.refuse(m, 0)
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
	return s.volume.handle(m, out)
}

func (s *server) panicked(p any) {
	err := fmt.Errorf("share: a request made us panic: %v", p)
	if s.fault.CompareAndSwap(nil, &err) {
		fmt.Fprintf(s.log, "%v\n%s", err, debug.Stack())
	}
	_ = s.stream.Close()
}

// refuse answers with an error, or 0, alone.
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
