package pump

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// The pump's own operations. Their opcodes are far from those of linux/fuse.h, and their numbers have a bit that the kernel, which counts up from 1, never sets.
const (
	// Resume is the first message of a stream that goes on where another one broke. Its body is the version, 32 bits, and how many requests follow that were sent
	// before, 32 bits. The answer is a header with error 0, or what stands against it.
	Resume uint32 = 0x43415001
	// Barrier is answered when everything sent before it is carried out and answered. It has no body.
	Barrier uint32 = 0x43415002
	// ResumeVersion is the only one.
	ResumeVersion = 1
	// ResumeUnique is the number of the only Resume of a stream.
	ResumeUnique = own
	own          = 1 << 63
)

const (
	// resumeTime bounds the way to a new stream: that of a restored machine is there within milliseconds.
	resumeTime = time.Minute
	// A host that is not ready yet tells nobody when it is.
	shortestWait = 10 * time.Millisecond
	longestWait  = time.Second
)

// message makes one of the pump's own.
func message(opcode uint32, unique uint64, body ...uint32) []byte {
	m := make([]byte, minRequest, minRequest+4*len(body))
	for _, v := range body {
		m = binary.NativeEndian.AppendUint32(m, v)
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint32(m[4:], opcode)
	binary.NativeEndian.PutUint64(m[8:], unique)
	return m
}

// Refuse is the answer to a Resume that cannot be.
func Refuse(errno unix.Errno) []byte {
	m := make([]byte, minReply)
	binary.NativeEndian.PutUint32(m, minReply)
	binary.NativeEndian.PutUint32(m[4:], uint32(-int32(errno)))
	binary.NativeEndian.PutUint64(m[8:], ResumeUnique)
	return m
}

// resume finds a new stream and sends on it what has no answer.
func (p *Pump) resume(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, resumeTime)
	defer cancel()
	for wait := shortestWait; ; wait = min(2*wait, longestWait) {
		stream, err := p.again(ctx)
		if err == nil {
			if err = p.takeUp(ctx, stream); err == nil {
				return nil
			}
			_ = stream.Close()
		}
		if errors.Is(err, ErrGone) {
			return err
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
	}
}

// takeUp begins a stream. What is sent again is sent while the answers to it are read.
func (p *Pump) takeUp(ctx context.Context, stream Stream) error {
	p.mu.Lock()
	begun, count := p.begun, len(p.sent)
	p.mu.Unlock()
	if begun { // else INIT itself has no answer, and is the first message again
		stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
		defer stop()
		if _, err := stream.Write(message(Resume, ResumeUnique, ResumeVersion, uint32(count))); err != nil {
			return fmt.Errorf("share: resume: %w", err)
		}
		answer := make([]byte, minReply)
		if _, err := io.ReadFull(stream, answer); err != nil {
			return fmt.Errorf("share: resume: %w", err)
		}
		if binary.NativeEndian.Uint32(answer) != minReply || binary.NativeEndian.Uint64(answer[8:]) != ResumeUnique {
			return fmt.Errorf("%w: its answer to Resume is none", ErrGone)
		}
		if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(answer[4:]))); errno != 0 {
			return fmt.Errorf("%w: it does not resume: %w", ErrGone, errno)
		}
		if !stop() {
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return ErrGone
	}
	p.stream = stream
	var messages [][]byte
	for _, r := range p.sent {
		messages = append(messages, r.bytes)
	}
	p.writing = true // until they are sent nobody else writes
	go func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.write(messages...)
	}()
	return nil
}

// Freeze returns when all that was sent to the host is carried out and answered; from then on nothing is sent until Thaw, and a snapshot of the machine
// and of the host's server is one of a whole. What the kernel asks meanwhile waits, so that who may use the file system must be stopped before. When ctx
// ends first nothing is frozen.
func (p *Pump) Freeze(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
	for !p.ended && ctx.Err() == nil && (p.writing || p.stream == nil) {
		p.changed.Wait()
	}
	if p.ended {
		return nil // nothing is sent any more
	}
	if ctx.Err() == nil {
		p.last++
		barrier := &request{unique: own | p.last, done: make(chan struct{})}
		barrier.bytes = message(Barrier, barrier.unique)
		p.keep(barrier)
		p.write(barrier.bytes)
		for !p.ended && ctx.Err() == nil && !isClosed(barrier.done) {
			p.changed.Wait()
		}
		if p.ended || isClosed(barrier.done) {
			return nil
		}
	}
	p.frozen = false
	p.changed.Broadcast()
	return fmt.Errorf("share: the host does not answer what it was asked: %w", ctx.Err())
}

// Thaw lets a frozen pump go on.
func (p *Pump) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = false
	p.changed.Broadcast()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
