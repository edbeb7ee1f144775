// Package pump is the guest's half of a share: it mounts a FUSE file system and carries its messages between /dev/fuse and a
// link stream. It understands nothing of the messages but their length, so it stays small enough for the agent.
//
// On the stream a message is what the kernel reads and writes: it begins with its own length, 32 bits in the guest's byte
// order, header included (struct fuse_in_header and fuse_out_header of linux/fuse.h).
package pump

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// MaxData is the most file data that one message carries: 256 pages, the kernel's own limit (FUSE_MAX_MAX_PAGES).
	MaxData = 1 << 20
	// MaxMessage bounds a message: its data and a page for all headers and names.
	MaxMessage = MaxData + 4096
	// minReply is sizeof(struct fuse_out_header).
	minReply = 16
)

// Stream is what the pump needs of a link stream.
type Stream interface {
	io.ReadWriteCloser
}

// Run carries messages until the file system is unmounted (it returns nil), ctx ends or the stream does. It closes device and
// stream: a file system whose stream has ended answers every call with ENOTCONN from then on.
func Run(ctx context.Context, device *os.File, stream Stream) error {
	var once sync.Once
	shut := func() {
		once.Do(func() {
			_ = stream.Close()
			_ = device.Close()
		})
	}
	defer shut()
	stop := context.AfterFunc(ctx, shut)
	defer stop()

	replies := make(chan error, 1)
	go func() {
		err := toKernel(device, stream)
		shut() // wakes the other direction
		replies <- err
	}()
	err := toHost(stream, device)
	shut()
	back := <-replies
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil // unmounted
	case errors.Is(err, os.ErrClosed) && back != nil:
		return back // the replies ended first
	}
	return err
}

// toHost sends what the kernel asks; nil means unmounted.
func toHost(stream io.Writer, device io.Reader) error {
	buf := make([]byte, MaxMessage)
	for {
		n, err := device.Read(buf)
		switch {
		case errors.Is(err, unix.ENODEV):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue // ENOENT: the request was taken back before we read it
		case err != nil:
			return fmt.Errorf("share: read from the kernel: %w", err)
		}
		if _, err := stream.Write(buf[:n]); err != nil {
			return fmt.Errorf("share: send to the host: %w", err)
		}
	}
}

// toKernel hands the host's replies to the kernel, each in one write.
func toKernel(device io.Writer, stream io.Reader) error {
	buf := make([]byte, MaxMessage)
	for {
		if _, err := io.ReadFull(stream, buf[:4]); err != nil {
			return fmt.Errorf("share: the host ended the stream: %w", err)
		}
		n := int(binary.NativeEndian.Uint32(buf))
		if n < minReply || n > len(buf) {
			return fmt.Errorf("share: a reply of %d bytes from the host", n)
		}
		if _, err := io.ReadFull(stream, buf[4:n]); err != nil {
			return fmt.Errorf("share: the host ended the stream: %w", err)
		}
		_, err := device.Write(buf[:n])
		switch {
		case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
			// ENOENT: nobody waits for this reply any more. EINVAL: the kernel did not like it and fails that one request.
		case errors.Is(err, unix.ENODEV):
			return nil
		default:
			return fmt.Errorf("share: write to the kernel: %w", err)
		}
	}
}
