package mitm

import (
	"container/list"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	dialTimeout      = 30 * time.Second
	handshakeTimeout = 20 * time.Second
	continueTimeout  = 5 * time.Second // RFC 9110 §10.1.1: a client does not wait for ever for 100 Continue
	idleUpstream     = 90 * time.Second
	maxIdlePerRoute  = 64
	maxRoutes        = 512
)

// route is one way to an upstream. Connections are shared only among requests of the same route: one that was opened to a private address by a
// rule's leave, or verified by an override's authorities, serves no request that policy would send another way.
type route struct {
	host    string
	port    int
	address string         // of the override; empty: the host's own
	roots   *x509.CertPool // of the override; nil: the Server's
	private bool           // private addresses may be dialed
	http2   bool           // the guest speaks HTTP/2, so the upstream may be spoken to in it
	plain   bool           // without TLS
}

type routes struct {
	mu    sync.Mutex
	order list.List // of *routeEntry, used last in front
	byKey map[route]*list.Element
}

type routeEntry struct {
	key       route
	transport *http.Transport
}

// get returns the transport of a route, made by build the first time. The one that was unused for longest goes when there are too many.
func (r *routes) get(key route, build func(route) *http.Transport) *http.Transport {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.byKey[key]; e != nil {
		r.order.MoveToFront(e)
		return e.Value.(*routeEntry).transport
	}
	if r.byKey == nil {
		r.byKey = map[route]*list.Element{}
	}
	t := build(key)
	r.byKey[key] = r.order.PushFront(&routeEntry{key, t})
	for r.order.Len() > maxRoutes {
		last := r.order.Back()
		r.order.Remove(last)
		delete(r.byKey, last.Value.(*routeEntry).key)
		last.Value.(*routeEntry).transport.CloseIdleConnections()
	}
	return t
}

func (r *routes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.order.Front(); e != nil; e = e.Next() {
		e.Value.(*routeEntry).transport.CloseIdleConnections()
	}
}

// transport is the Server as the reverse proxy's RoundTripper.
type transport Server

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	s := (*Server)(t)
	x := exchangeOf(r.Context())
	key := route{host: x.conn.host, port: x.conn.port, private: x.verdict.PrivateOK, http2: x.conn.http2, plain: !x.conn.secure}
	if up, ok := s.cfg.Upstream(key.host, key.port); ok {
		key.address, key.roots, key.private = up.Address, up.RootCAs, true
	}
	return s.routes.get(key, s.newTransport).RoundTrip(r)
}

func (s *Server) newTransport(key route) *http.Transport {
	roots := key.roots
	if roots == nil {
		roots = s.cfg.Roots
	}
	// As the guest speaks, so that a server is met as it would be without a proxy between; a change of version only costs.
	var protocols http.Protocols
	switch {
	case key.http2 && key.plain:
		protocols.SetUnencryptedHTTP2(true)
	case key.http2:
		protocols.SetHTTP1(true) // where a server has no HTTP/2
		protocols.SetHTTP2(true)
	default:
		protocols.SetHTTP1(true)
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, key) },
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            roots,
			ServerName:         key.host, // the decided name, also where an override leads elsewhere
			ClientSessionCache: tls.NewLRUClientSessionCache(8),
		},
		Protocols:              &protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 30 * time.Second, MaxReadFrameSize: 64 << 10},
		DisableCompression:     true, // the guest asks for what it wants, and gets the bytes as they are
		TLSHandshakeTimeout:    handshakeTimeout,
		ExpectContinueTimeout:  continueTimeout,
		IdleConnTimeout:        idleUpstream,
		MaxIdleConnsPerHost:    maxIdlePerRoute,
		MaxResponseHeaderBytes: maxResponseHeader,
		ReadBufferSize:         16 << 10,
		WriteBufferSize:        16 << 10,
	}
}

// dial opens a connection. The address is checked after resolution, on the very socket that connects.
func (s *Server) dial(ctx context.Context, key route) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, Resolver: s.cfg.Resolver}
	if !key.private {
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return checkAddress(ap.Addr(), net.InterfaceAddrs)
		}
	}
	address := key.address
	if address == "" {
		host := key.host
		if _, err := netip.ParseAddr(host); err != nil {
			host += "." // absolute: the host's search domains are not meant
		}
		address = net.JoinHostPort(host, strconv.Itoa(key.port))
	}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	u := &upstreamConn{Conn: c, srv: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		c.Close()
		return nil, net.ErrClosed
	}
	s.upstreams[u] = struct{}{}
	return u, nil
}

// upstreamConn is known to the Server until it is closed, so that Close leaves none open.
type upstreamConn struct {
	net.Conn
	srv *Server
}

func (u *upstreamConn) Close() error {
	u.srv.mu.Lock()
	delete(u.srv.upstreams, u)
	u.srv.mu.Unlock()
	return u.Conn.Close()
}

// CloseWrite ends this side's bytes.
func (u *upstreamConn) CloseWrite() error {
	if w, ok := u.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
