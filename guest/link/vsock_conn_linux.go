package link

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// vsockConn is a Conn of a vsock. A host that resets a stream looks like one that closes it: Linux tells no difference.
type vsockConn struct {
	link *vsock
	port Port
	file *os.File // nonblocking, so the runtime waits for it
}

// newConn takes fd over; nil if the link is closed.
func (v *vsock) newConn(fd int, port Port) *vsockConn {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		unix.Close(fd)
		return nil
	}
	c := &vsockConn{link: v, port: port, file: os.NewFile(uintptr(fd), "vsock")}
	v.conns[c] = struct{}{}
	return c
}

func (c *vsockConn) Read(p []byte) (int, error) {
	n, err := c.file.Read(p)
	if err == io.EOF {
		return n, err
	}
	return n, vsockError(err)
}

func (c *vsockConn) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	return n, vsockError(err)
}

// ReadFrom writes what it reads from r in packets as long as they may be.
func (c *vsockConn) ReadFrom(r io.Reader) (int64, error) { return copyFrames(c, r) }

// CloseWrite ends this side's bytes; the peer reads io.EOF after them.
func (c *vsockConn) CloseWrite() error {
	var failed error
	raw, err := c.file.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { failed = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
	if err != nil { // there is one reason
		return net.ErrClosed
	}
	return vsockError(failed)
}

// Close gives the stream up. What was written before reaches the peer.
func (c *vsockConn) Close() error {
	c.link.mu.Lock()
	delete(c.link.conns, c)
	c.link.mu.Unlock()
	c.file.Close()
	return nil
}

func (c *vsockConn) LocalAddr() net.Addr               { return Addr{Guest, c.port} }
func (c *vsockConn) RemoteAddr() net.Addr              { return Addr{Host, c.port} }
func (c *vsockConn) SetDeadline(t time.Time) error     { return vsockError(c.file.SetDeadline(t)) }
func (c *vsockConn) SetReadDeadline(t time.Time) error { return vsockError(c.file.SetReadDeadline(t)) }
func (c *vsockConn) SetWriteDeadline(t time.Time) error {
	return vsockError(c.file.SetWriteDeadline(t))
}

// vsockError speaks of the kernel's errors in this package's words.
func vsockError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ENOTCONN):
		return ErrReset
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENETUNREACH):
		return ErrClosed // the device has gone
	}
	return err
}
