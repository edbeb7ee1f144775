// Package link carries the streams between a machine and its host. Both sides import it; it imports nothing of ours.
//
// A stream is reliable, ordered, flow-controlled and can be closed for writing alone. Each belongs to a port, which says
// what is spoken on it. On vsock a port is a vsock port; where the machine has one serial port only, Mux makes streams
// and ports of it.
//
// The host trusts no byte of it: every length is bounded before memory is taken, and a peer that breaks the framing loses
// the whole link, never more.
package link

import (
	"context"
	"errors"
	"net"
)

// Port names what a stream carries. The numbers are vsock port numbers; those below 1024 are privileged there.
type Port uint32

const (
	// Ready is dialed by the guest on vsock once it listens, and refused: from then on a port without a listener is one, not a guest that is still on
	// its way. It carries nothing.
	Ready Port = 1023
	// Control is dialed by the host: SSH (RFC 4253), the agent is the server. Only the host can open it, so it asks for no key.
	Control Port = 1024
	// Egress is dialed by the guest, once for each TCP connection: a PROXY protocol v2 header that names the connection's
	// original source and destination, then its bytes.
	Egress Port = 1025
	// DNS is dialed by the guest: DNS over TCP (RFC 7766), any number of messages.
	DNS Port = 1026
	// Share is dialed by the guest, once for each mounted folder: one length byte and that many bytes of the share's tag, then
	// FUSE messages as they are read from and written to /dev/fuse (each begins with its own length).
	Share Port = 1027
)

// Conn is one stream.
type Conn interface {
	net.Conn
	// CloseWrite ends this side's bytes: the peer reads io.EOF and may still write.
	CloseWrite() error
}

// Link opens and takes streams.
type Link interface {
	// Dial opens a stream to a port of the peer. ErrRefused when nobody listens there.
	Dial(ctx context.Context, port Port) (Conn, error)
	// Listen takes the streams that the peer opens to port. Its Accept returns values that are Conn. A second Listen on a port fails until
	// the first is closed.
	Listen(port Port) (net.Listener, error)
	// Done is closed when the link has ended, by Close or by a fault; Err then says why.
	Done() <-chan struct{}
	Err() error
	Close() error
}

var (
	// ErrRefused: nobody listens on the port that was dialed.
	ErrRefused = errors.New("link: connection refused")
	// ErrClosed: the link has ended.
	ErrClosed = errors.New("link: closed")
)
