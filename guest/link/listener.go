package link

import (
	"fmt"
	"net"
	"sync"
)

type listener struct {
	mux    *Mux
	port   Port
	places chan struct{} // one for each stream in conns or about to be
	conns  chan *stream
	closed chan struct{}

	mu   sync.Mutex
	shut bool
}

func newListener(m *Mux, port Port) *listener {
	return &listener{
		mux: m, port: port,
		places: make(chan struct{}, backlog), conns: make(chan *stream, backlog), closed: make(chan struct{}),
	}
}

// deliver queues a stream for Accept. A place was reserved for it.
func (l *listener) deliver(c *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		c.abort()
		return
	}
	l.conns <- c
}

func (l *listener) release() { <-l.places }

// Accept waits for a stream. Its errors wrap net.ErrClosed, and ErrClosed when it is the link that ended.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		l.release()
		return c, nil
	case <-l.closed:
		return nil, fmt.Errorf("accept on port %d: %w", l.port, net.ErrClosed)
	case <-l.mux.done:
		return nil, fmt.Errorf("accept on port %d: %w: %w", l.port, l.mux.err, net.ErrClosed)
	}
}

// Close ends Accept and resets the streams that were not accepted.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.shut {
		l.mu.Unlock()
		return nil
	}
	l.shut = true
	l.mu.Unlock()

	close(l.closed)
	l.mux.mu.Lock()
	if l.mux.listeners[l.port] == l {
		delete(l.mux.listeners, l.port)
	}
	l.mux.mu.Unlock()
	for {
		select {
		case c := <-l.conns:
			c.abort()
		default:
			return nil
		}
	}
}

func (l *listener) Addr() net.Addr { return Addr{l.mux.side, l.port} }

// Addr is one end of a stream.
type Addr struct {
	Side Side
	Port Port
}

// Network is "link".
func (Addr) Network() string { return "link" }

func (a Addr) String() string { return fmt.Sprintf("%s:%d", a.Side, a.Port) }
