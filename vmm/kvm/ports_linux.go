package kvm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"capsid/guest/link"
)

// backlog is how many streams of a port wait for Accept; more are refused, as by a socket whose backlog is full.
const backlog = 1024

// ports is who listens on the host.
type ports struct {
	up   chan struct{} // closed when the guest's side of the link is there
	once sync.Once

	mu        sync.Mutex
	listeners map[link.Port]*listener
	ended     bool
	err       error
}

func (p *ports) init() {
	p.up = make(chan struct{})
	p.listeners = map[link.Port]*listener{}
}

// ready lets dials go.
func (p *ports) ready() { p.once.Do(func() { close(p.up) }) }

// close ends Accept of all.
func (p *ports) close(err error) {
	p.mu.Lock()
	p.ended, p.err = true, err
	all := p.listeners
	p.listeners = nil
	p.mu.Unlock()
	for _, l := range all {
		l.shut()
	}
}

type listener struct {
	ports  *ports
	port   link.Port
	closed chan struct{}

	mu    sync.Mutex
	conns chan net.Conn
	done  bool
}

// Listen takes the streams that the guest opens to port.
func (m *machine) Listen(port link.Port) (net.Listener, error) {
	p := &m.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil, link.ErrClosed
	}
	if p.listeners[port] != nil || port == link.Ready {
		return nil, fmt.Errorf("link: port %d is listened on already", port)
	}
	l := &listener{ports: p, port: port, closed: make(chan struct{}), conns: make(chan net.Conn, backlog)}
	p.listeners[port] = l
	return l, nil
}

// incoming is a stream that the guest opens.
func (m *machine) incoming(msg message, f *os.File) {
	if f == nil {
		return
	}
	ok := false
	if link.Port(msg.Port) == link.Ready {
		m.ports.ready()
		f.Close()
	} else {
		m.ports.mu.Lock()
		l := m.ports.listeners[link.Port(msg.Port)]
		m.ports.mu.Unlock()
		ok = l.deliver(f)
	}
	_ = m.socket.send(message{Kind: answer, ID: msg.ID, OK: ok}) // else the process has ended
}

// deliver queues a stream for Accept, or closes it.
func (l *listener) deliver(f *os.File) bool {
	if l == nil {
		f.Close()
		return false
	}
	conn, err := newConn(f, l.port)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done {
		select {
		case l.conns <- conn:
			return true
		default:
		}
	}
	conn.Close()
	return false
}

// Accept waits for a stream. Its errors wrap net.ErrClosed, and link.ErrClosed when it is the machine that ended.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
	}
	l.ports.mu.Lock()
	defer l.ports.mu.Unlock()
	if l.ports.ended {
		return nil, fmt.Errorf("accept on port %d: %w: %w", l.port, link.ErrClosed, net.ErrClosed)
	}
	return nil, fmt.Errorf("accept on port %d: %w", l.port, net.ErrClosed)
}

// Close ends Accept and the streams that were not accepted.
func (l *listener) Close() error {
	l.ports.mu.Lock()
	if l.ports.listeners[l.port] == l {
		delete(l.ports.listeners, l.port)
	}
	l.ports.mu.Unlock()
	l.shut()
	return nil
}

func (l *listener) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return
	}
	l.done = true
	close(l.closed)
	for {
		select {
		case c := <-l.conns:
			c.Close()
		default:
			return
		}
	}
}

func (l *listener) Addr() net.Addr { return address{l.port} }

// address is an end of a stream.
type address struct{ port link.Port }

func (address) Network() string  { return "vsock" }
func (a address) String() string { return fmt.Sprintf("port %d", a.port) }

// conn is one stream: a socket whose other end the machine's process has.
type conn struct {
	*net.UnixConn
	port link.Port
}

// newConn takes f over.
func newConn(f *os.File, port link.Port) (conn, error) {
	s, err := newSocket(f)
	return conn{s.conn, port}, err
}

func (c conn) LocalAddr() net.Addr  { return address{c.port} }
func (c conn) RemoteAddr() net.Addr { return address{c.port} }

// Dial opens a stream to a port of the guest. Until the guest's side of the link is there it waits.
func (m *machine) Dial(ctx context.Context, port link.Port) (link.Conn, error) {
	c, err := m.dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("dial port %d: %w", port, err)
	}
	return c, nil
}

func (m *machine) dial(ctx context.Context, port link.Port) (link.Conn, error) {
	select {
	case <-m.ports.up:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.done:
		return nil, link.ErrClosed
	}
	id, answer, err := m.request(message{Kind: dial, Port: uint32(port)})
	if err != nil {
		return nil, link.ErrClosed
	}
	select {
	case r := <-answer:
		switch {
		case r.err != nil:
			return nil, fmt.Errorf("%w: %w", link.ErrRefused, r.err)
		case r.file == nil:
			return nil, errors.New("the machine sent no stream")
		}
		return newConn(r.file, port)
	case <-ctx.Done():
		if m.forget(id) {
			_ = m.socket.send(message{Kind: cancel, ID: id})
		} else if r := <-answer; r.file != nil {
			r.file.Close()
		}
		return nil, ctx.Err()
	case <-m.done:
		if !m.forget(id) {
			if r := <-answer; r.file != nil {
				r.file.Close()
			}
		}
		return nil, link.ErrClosed
	}
}
