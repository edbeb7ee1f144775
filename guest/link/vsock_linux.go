package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Addresses on vsock (include/uapi/linux/vm_sockets.h).
const (
	hostCID       = unix.VMADDR_CID_HOST
	firstGuestCID = 3
	anyCID        = unix.VMADDR_CID_ANY
)

// vsockThere says whether the machine has an address on vsock, by the device file at path: its driver is there and works.
func vsockThere(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	cid, err := unix.IoctlGetUint32(int(f.Fd()), unix.IOCTL_VM_SOCKETS_GET_LOCAL_CID)
	return err == nil && cid >= firstGuestCID && cid != anyCID
}

// vsock is a Link of a guest by the sockets of its kernel.
//
// Any program of the guest may open such streams to the host, as root may do everything else here: what may pass is decided on
// the host. The other way, only the host's streams are accepted.
type vsock struct {
	peer uint32 // the host's address

	mu        sync.Mutex
	listeners map[Port]*vsockListener
	conns     map[*vsockConn]struct{}
	listened  bool
	closed    bool
	done      chan struct{}
	tasks     sync.WaitGroup
	stop      context.CancelFunc // of tasks
}

// newVsock makes the link to the host.
func newVsock() *vsock { return vsockTo(hostCID) }

func vsockTo(peer uint32) *vsock {
	return &vsock{
		peer: peer, listeners: map[Port]*vsockListener{}, conns: map[*vsockConn]struct{}{}, done: make(chan struct{}), stop: func() {},
	}
}

// Done is closed by Close. A transport that goes is seen by those who use it.
func (v *vsock) Done() <-chan struct{} { return v.done }

// Err is ErrClosed after Close.
func (v *vsock) Err() error {
	select {
	case <-v.done:
		return ErrClosed
	default:
		return nil
	}
}

// Close ends the link with its listeners and streams.
func (v *vsock) Close() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		<-v.done
		return nil
	}
	v.closed = true
	listeners, conns := v.listeners, v.conns
	v.listeners, v.conns = nil, nil
	v.mu.Unlock()
	v.stop()
	for _, l := range listeners {
		l.file.Close()
	}
	for c := range conns {
		c.file.Close()
	}
	v.tasks.Wait()
	close(v.done)
	return nil
}

// connectTime is how long the kernel waits for an answer; its own default, two seconds, is less than a host may need that was paused, and
// than a person needs who is asked. The context says when to give up.
const connectTime = 24 * time.Hour

// Dial opens a stream to a port of the host.
func (v *vsock) Dial(ctx context.Context, port Port) (Conn, error) {
	c, err := v.dial(ctx, port)
	if err != nil {
		return nil, dialError(port, err)
	}
	return c, nil
}

func (v *vsock) dial(ctx context.Context, port Port) (*vsockConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fd, err := vsockSocket()
	if err != nil {
		return nil, err
	}
	timeout := unix.NsecToTimeval(connectTime.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout)
	if err == nil {
		for {
			err = unix.Connect(fd, &unix.SockaddrVM{CID: v.peer, Port: uint32(port)})
			if err != unix.EINTR {
				break
			}
		}
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, vsockError(err)
	}
	c := v.newConn(fd, port)
	if c == nil {
		return nil, ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { c.file.SetWriteDeadline(time.Unix(1, 0)) })
	err = c.connected()
	if !stop() {
		err = ctx.Err()
	}
	if err == nil {
		return c, nil
	}
	c.Close()
	if err == ErrReset {
		err = ErrRefused
	}
	return nil, err
}

// connected waits until the host has answered.
func (c *vsockConn) connected() error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var answer error
	err = raw.Write(func(fd uintptr) bool {
		// A wake-up may be of the time before.
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err == nil {
			_, err = unix.Getpeername(int(fd))
		}
		answer = err
		return err != unix.ENOTCONN
	})
	if err != nil && c.link.isClosed() {
		return ErrClosed
	}
	return vsockError(errors.Join(err, answer))
}

// vsockSocket makes a socket that takes as much before it is read as a stream of a Mux does; the kernel's default is a quarter of it, and has the
// bytes wait for the peer's word four times as often.
func vsockSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("vsock socket: %w", err)
	}
	for _, option := range []int{unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE, unix.SO_VM_SOCKETS_BUFFER_SIZE} {
		if err := unix.SetsockoptUint64(fd, unix.AF_VSOCK, option, window); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("vsock socket: %w", err)
		}
	}
	return fd, nil
}

// vsockBacklog is how many streams of a port wait for Accept; more are refused.
const vsockBacklog = 4096

// Listen takes the streams that the host opens to port. The first tells the host that there is somebody.
func (v *vsock) Listen(port Port) (net.Listener, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, ErrClosed
	}
	fd, err := vsockSocket()
	if err != nil {
		return nil, err
	}
	if err = unix.Bind(fd, &unix.SockaddrVM{CID: anyCID, Port: uint32(port)}); err == nil {
		err = unix.Listen(fd, vsockBacklog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("link: listen on port %d: %w", port, err)
	}
	l := &vsockListener{link: v, port: port, file: os.NewFile(uintptr(fd), "vsock")}
	v.listeners[port] = l
	if !v.listened {
		v.listened = true
		var ctx context.Context
		ctx, v.stop = context.WithCancel(context.Background())
		v.tasks.Go(func() { v.tellReady(ctx) })
	}
	return l, nil
}

// tellReady lets the host know that a refusal means one from now on. It is refused itself.
func (v *vsock) tellReady(ctx context.Context) {
	if c, err := v.dial(ctx, Ready); err == nil {
		c.Close()
	}
}

type vsockListener struct {
	link *vsock
	port Port
	file *os.File
}

// fullPause is how long Accept waits when this process or the kernel has no room for a stream: of its end nobody tells.
const fullPause = 50 * time.Millisecond

// Accept waits for a stream. Its errors wrap net.ErrClosed, and ErrClosed when it is the link that ended.
func (l *vsockListener) Accept() (net.Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, l.ended()
	}
	for {
		var fd int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(s uintptr) bool {
			fd, from, failed = unix.Accept4(int(s), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			return failed != unix.EAGAIN
		})
		if err != nil { // without deadlines there is one reason
			return nil, l.ended()
		}
		switch failed {
		case nil:
			if vm, ok := from.(*unix.SockaddrVM); !ok || vm.CID != l.link.peer {
				unix.Close(fd)
				continue
			}
			if c := l.link.newConn(fd, l.port); c != nil {
				return c, nil
			}
			return nil, l.ended()
		case unix.EINTR, unix.ECONNABORTED, unix.ECONNRESET:
		case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS:
			time.Sleep(fullPause)
		default:
			return nil, fmt.Errorf("accept on port %d: %w", l.port, failed)
		}
	}
}

func (l *vsockListener) ended() error {
	if l.link.isClosed() {
		return fmt.Errorf("accept on port %d: %w: %w", l.port, ErrClosed, net.ErrClosed)
	}
	return fmt.Errorf("accept on port %d: %w", l.port, net.ErrClosed)
}

func (v *vsock) isClosed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.closed
}

// Close ends Accept and the streams that were not accepted.
func (l *vsockListener) Close() error {
	l.link.mu.Lock()
	if l.link.listeners[l.port] == l {
		delete(l.link.listeners, l.port)
	}
	l.link.mu.Unlock()
	l.file.Close()
	return nil
}

func (l *vsockListener) Addr() net.Addr { return Addr{Guest, l.port} }
