// Package pump is the guest's half of a share: it mounts a FUSE file system and carries its messages between /dev/fuse and a
// link stream. It understands nothing of the messages but their headers, so it stays small enough for the agent.
//
// On the stream a message is what the kernel reads and writes: it begins with its own length, 32 bits in the guest's byte
// order, header included (struct fuse_in_header and fuse_out_header of linux/fuse.h). Two operations are the pump's own: Resume and Barrier.
//
// # When the stream breaks
//
// A machine that was restored from a snapshot finds its streams gone and another server at the other end, which has loaded the state of the
// first. The file system goes on: the pump keeps /dev/fuse, dials again, says Resume and sends once more, in their order, the requests that
// have no answer yet. No request is carried out twice:
//
//   - Before a snapshot the host has the pump frozen (Freeze): all that was sent is carried out and answered by then, and nothing is sent until Thaw.
//     What the kernel asks meanwhile waits here or in the kernel, and no server has seen it. A snapshot of a machine whose pump is not frozen has no such promise: what is
//     between the two sides then may be done by the first server after it was saved, and by the second again.
//   - When a stream breaks at another time the server finishes what it has read, and knows its latest answers, one for each change: of
//     a request that is sent again it says what it said before. It keeps more of them than the pump ever has unanswered. What may be lost is a FORGET, and what may be counted
//     twice is what a READDIRPLUS told: the server keeps a node longer than needed.
package pump

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// MaxData is the most file data that one message carries: 256 pages, the kernel's own limit (FUSE_MAX_MAX_PAGES).
	MaxData = 1 << 20
	// MaxMessage bounds a message: its data and a page for all headers and names.
	MaxMessage = MaxData + 4096
	// MaxSent is the most requests that wait for an answer.
	MaxSent = 128
	// maxSentBytes bounds them too, and so what the pump keeps in memory.
	maxSentBytes = 16 << 20
	// minRequest and minReply are sizeof(struct fuse_in_header) and sizeof(struct fuse_out_header).
	minRequest = 40
	minReply   = 16
)

// Stream is what the pump needs of a link stream.
type Stream interface {
	io.ReadWriteCloser
}

// ErrGone is what a dial wraps when there is no use in another.
var ErrGone = errors.New("share: the host's side is gone")

// Pump serves one mounted file system.
type Pump struct {
	device *os.File
	again  func(context.Context) (Stream, error)
	large  sync.Pool // of *[MaxMessage]byte

	mu      sync.Mutex
	changed sync.Cond // by any of what follows
	stream  Stream    // nil while there is none
	writing bool      // somebody writes to the stream
	frozen  bool
	ended   bool
	begun   bool // the host has answered: it has a file system for us
	sent    []*request
	bytes   int    // of sent
	last    uint64 // number of the last barrier
	cancel  context.CancelFunc
}

// request waits for its answer.
type request struct {
	unique uint64
	bytes  []byte
	done   chan struct{} // of a barrier: closed when it is answered
}

// New makes the pump of a file system that Mount has put in place, whose first stream is there already. again opens another one when that breaks; it
// is called until it succeeds or wraps ErrGone, for a minute at most.
func New(device *os.File, stream Stream, again func(context.Context) (Stream, error)) *Pump {
	p := &Pump{device: device, stream: stream, again: again, cancel: func() {}}
	p.changed.L = &p.mu
	p.large.New = func() any { return new([MaxMessage]byte) }
	return p
}

// Run carries messages until the file system is unmounted (it returns nil), ctx ends or the host is gone. It closes device and
// stream: a file system without a pump answers every call with ENOTCONN from then on. Call it once.
func (p *Pump) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	p.cancel = cancel
	p.mu.Unlock()
	defer p.end()
	stop := context.AfterFunc(ctx, p.end)
	defer stop()

	asked := make(chan error, 1)
	go func() {
		err := p.toHost()
		p.end() // wakes the other direction
		asked <- err
	}()
	back := p.fromHost(inner)
	p.mu.Lock()
	first := !p.ended // the replies ended first, and not for unmounting or ctx
	p.mu.Unlock()
	p.end()
	err := <-asked
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case first:
		return back
	}
	return err
}

// end stops everything. It may be called more than once.
func (p *Pump) end() {
	p.mu.Lock()
	p.ended = true
	stream := p.stream
	p.changed.Broadcast()
	p.mu.Unlock()
	if stream != nil {
		_ = stream.Close()
	}
	_ = p.device.Close()
	p.cancel()
}

// toHost sends what the kernel asks; nil means unmounted.
func (p *Pump) toHost() error {
	for {
		buf := p.large.Get().(*[MaxMessage]byte)
		n, err := p.device.Read(buf[:])
		switch {
		case errors.Is(err, unix.ENODEV), err != nil && p.unmounted():
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			p.large.Put(buf)
			continue // ENOENT: the request was taken back before we read it
		case err != nil:
			return fmt.Errorf("share: read from the kernel: %w", err)
		case n < minRequest:
			return fmt.Errorf("share: %d bytes from the kernel", n)
		}
		m := buf[:n]
		if n <= MaxMessage/16 {
			m = slices.Clone(m)
			p.large.Put(buf)
		}
		if !p.send(m) {
			return os.ErrClosed
		}
	}
}

// unmounted asks the kernel, which tells the runtime's poller of an error (POLLERR) when the file system goes while we wait; that is no errno.
func (p *Pump) unmounted() bool {
	raw, err := p.device.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 0); err == nil {
			gone = fds[0].Revents&unix.POLLERR != 0
		}
	})
	return gone
}

// silent reports whether nobody answers a request: FORGET, NOTIFY_REPLY, BATCH_FORGET.
func silent(m []byte) bool {
	switch binary.NativeEndian.Uint32(m[4:]) {
	case 2, 41, 42:
		return true
	}
	return false
}

// send sends a request when it may be sent; false when the pump has ended. What cannot be sent for lack of a stream is sent with the next one.
func (p *Pump) send(m []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended && (p.frozen || p.writing || p.stream == nil || len(p.sent) >= MaxSent || p.bytes > 0 && p.bytes+cap(m) > maxSentBytes) {
		p.changed.Wait()
	}
	if p.ended {
		return false
	}
	if !silent(m) {
		p.keep(&request{unique: binary.NativeEndian.Uint64(m[8:]), bytes: m})
	}
	p.write(m)
	return true
}

func (p *Pump) keep(r *request) {
	p.sent = append(p.sent, r)
	p.bytes += cap(r.bytes)
}

// write writes to the stream, with the lock released meanwhile. A failure is the stream's end, which its reader sees to.
func (p *Pump) write(messages ...[]byte) {
	p.writing = true
	stream := p.stream
	p.mu.Unlock()
	for _, m := range messages {
		if _, err := stream.Write(m); err != nil {
			_ = stream.Close()
			break
		}
	}
	p.mu.Lock()
	p.writing = false
	p.changed.Broadcast()
}

// answered takes a request off the list.
func (p *Pump) answered(unique uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
	i := slices.IndexFunc(p.sent, func(r *request) bool { return r.unique == unique })
	if i < 0 {
		return
	}
	r := p.sent[i]
	p.sent = slices.Delete(p.sent, i, i+1)
	p.bytes -= cap(r.bytes)
	if r.done != nil {
		close(r.done)
	}
	if cap(r.bytes) == MaxMessage && !p.writing { // else it may be what is being written
		p.large.Put((*[MaxMessage]byte)(r.bytes[:MaxMessage]))
	}
	p.changed.Broadcast()
}

// fromHost hands the host's replies to the kernel, from one stream after the other.
func (p *Pump) fromHost(ctx context.Context) error {
	for {
		p.mu.Lock()
		stream := p.stream
		p.mu.Unlock()
		lost, err := p.toKernel(stream)
		if !lost {
			return err
		}
		_ = stream.Close()
		p.mu.Lock()
		p.stream = nil
		for p.writing {
			p.changed.Wait()
		}
		ended := p.ended
		p.mu.Unlock()
		if ended {
			return err
		}
		if next := p.resume(ctx); next != nil {
			return fmt.Errorf("%w; %w", err, next)
		}
	}
}

// toKernel hands the replies of one stream to the kernel, each in one write; lost when it is the stream that ended.
func (p *Pump) toKernel(stream io.Reader) (lost bool, err error) {
	buf := make([]byte, MaxMessage)
	for {
		if _, err := io.ReadFull(stream, buf[:4]); err != nil {
			return true, fmt.Errorf("share: the host ended the stream: %w", err)
		}
		n := int(binary.NativeEndian.Uint32(buf))
		if n < minReply || n > len(buf) {
			return false, fmt.Errorf("share: a reply of %d bytes from the host", n)
		}
		if _, err := io.ReadFull(stream, buf[4:n]); err != nil {
			return true, fmt.Errorf("share: the host ended the stream: %w", err)
		}
		unique := binary.NativeEndian.Uint64(buf[8:])
		p.answered(unique)
		if unique&own != 0 {
			continue // the kernel did not ask
		}
		_, err := p.device.Write(buf[:n])
		switch {
		case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
			// ENOENT: nobody waits for this reply any more. EINVAL: the kernel did not like it and fails that one request.
		case errors.Is(err, unix.ENODEV):
			return false, nil
		default:
			return false, fmt.Errorf("share: write to the kernel: %w", err)
		}
	}
}
