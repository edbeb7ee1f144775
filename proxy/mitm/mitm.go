package mitm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync"
	"time"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
	"capsid/proxy/storm"
)

// Rows is where exchanges are recorded; *ledger.Ledger is one.
type Rows interface {
	Begin(ledger.Entry) int64
	Finish(id int64, change func(*ledger.Entry))
	Add(ledger.Entry) int64
}

// Config is what a Server works with. Zero fields below the line have defaults.
type Config struct {
	Session string
	// Leaf returns a certificate for a host (a name or an IP literal).
	Leaf func(host string) (*tls.Certificate, error)
	// Hold tells which name a synthetic address stands for, and keeps it so until release is called.
	Hold func(netip.Addr) (name string, release func(), ok bool)
	// Synthetic reports whether an address is of the range that names are given.
	Synthetic func(netip.Addr) bool
	// Connect, Request, Upstream and Locked ask the policy in force.
	Connect  func(host string, port int) policy.Verdict
	Request  func(policy.Request) policy.Verdict
	Upstream func(host string, port int) (policy.Upstream, bool)
	Locked   func() bool
	Rows     Rows
	// Refused records what was refused; it must not let a storm through.
	Refused *storm.Recorder

	Log      *slog.Logger
	Roots    *x509.CertPool // what upstreams are verified with; nil means the host's trust store
	Resolver *net.Resolver  // nil means the host's

	MaxConns       int           // open connections of the guest: 12,000
	MaxRequests    int           // requests under way: 2,048
	HeaderTimeout  time.Duration // for the PROXY header, a TLS handshake, a request's header: 30 s
	Silence        time.Duration // how long an allowed connection may say nothing at its start: 30 s
	SilenceRefused time.Duration // and one that is not allowed: 10 s
	IdleTimeout    time.Duration // between two requests: 3 min
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.MaxConns == 0 {
		c.MaxConns = 12000
	}
	if c.MaxRequests == 0 {
		c.MaxRequests = 2048
	}
	if c.Locked == nil {
		c.Locked = func() bool { return false }
	}
	def(&c.HeaderTimeout, 30*time.Second)
	def(&c.Silence, 30*time.Second)
	def(&c.SilenceRefused, 10*time.Second)
	def(&c.IdleTimeout, 3*time.Minute)
	return c
}

const (
	maxRequestHeader  = 256 << 10 // bytes
	maxResponseHeader = 512 << 10
)

// Server carries connections. Its methods may be called at the same time.
type Server struct {
	cfg    Config
	tls    *tls.Config
	http   *http.Server
	h2c    *http.Server
	proxy  *httputil.ReverseProxy
	queue  queue // of http
	queue2 queue // of h2c
	routes routes
	slots  chan struct{} // one for each request under way
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	closed    bool
	started   bool
	listeners map[net.Listener]struct{}
	conns     map[*guestConn]struct{}
	upstreams map[*upstreamConn]struct{}
	exchanges map[*exchange]struct{}
	wg        sync.WaitGroup
}

// New returns a server. It owns nothing until Serve is called.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		cfg:       cfg,
		queue:     queue{conns: make(chan net.Conn), done: make(chan struct{})},
		queue2:    queue{conns: make(chan net.Conn), done: make(chan struct{})},
		slots:     make(chan struct{}, cfg.MaxRequests),
		listeners: map[net.Listener]struct{}{},
		conns:     map[*guestConn]struct{}{},
		upstreams: map[*upstreamConn]struct{}{},
		exchanges: map[*exchange]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tls = s.tlsConfig()
	s.proxy = s.reverseProxy()
	var usual, h2c http.Protocols
	usual.SetHTTP1(true)
	usual.SetHTTP2(true)
	h2c.SetUnencryptedHTTP2(true) // by prior knowledge, as gRPC without TLS does
	// Two servers, since one that knows both holds back a short first request while it looks for the preface of HTTP/2.
	s.http = s.httpServer(&usual)
	s.h2c = s.httpServer(&h2c)
	return s
}

func (s *Server) httpServer(p *http.Protocols) *http.Server {
	return &http.Server{
		Handler:           s,
		Protocols:         p,
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    maxRequestHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250, SendPingTimeout: time.Minute, PingTimeout: 30 * time.Second},
		ErrorLog:          log.New(logWriter{s.cfg.Log}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, guestOf(c))
		},
		ConnState: s.connState,
		// "OPTIONS *" is the upstream's to answer.
		DisableGeneralOptionsHandler: true,
	}
}

type connKey struct{}

type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("http", "message", string(p))
	return len(p), nil
}

// Serve carries the streams of l until Close, or until l fails. It closes l. After Close it returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.listeners[l] = struct{}{}
	if !s.started {
		s.started = true
		s.wg.Go(func() { s.http.Serve(s.queue) })
		s.wg.Go(func() { s.h2c.Serve(s.queue2) })
	}
	s.mu.Unlock()
	defer l.Close()
	for {
		raw, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.listeners, l)
			if s.closed || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		c := &guestConn{Conn: raw, srv: s}
		if !s.enter(c) {
			raw.Close()
			s.refuseConn(c, builtIn("connection limit", "too many connections are open in this machine"), 0)
			continue
		}
		go s.carry(c)
	}
}

// enter counts a connection in; its Close counts it out.
func (s *Server) enter(c *guestConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.cfg.MaxConns {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) leave(c *guestConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.wg.Done()
}

// Recheck asks the policy in force about all exchanges under way and ends those that it does not allow any more.
func (s *Server) Recheck() {
	s.mu.Lock()
	list := make([]*exchange, 0, len(s.exchanges))
	for x := range s.exchanges {
		list = append(list, x)
	}
	s.mu.Unlock()
	for _, x := range list {
		if v := s.cfg.Request(x.request); v.Decision != ledger.Allow {
			x.cancel(&revokedError{v})
		}
	}
}

// Close ends all connections and returns when nothing runs any more.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	s.closed = true
	s.cancel()
	close(s.queue.done)
	close(s.queue2.done)
	for l := range s.listeners {
		l.Close()
	}
	conns := make([]*guestConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	s.http.Close()
	s.h2c.Close()
	for _, c := range conns {
		c.Close()
	}
	s.wg.Wait()
	s.routes.close()
	s.mu.Lock()
	ups := make([]*upstreamConn, 0, len(s.upstreams))
	for u := range s.upstreams {
		ups = append(ups, u)
	}
	s.mu.Unlock()
	for _, u := range ups {
		u.Close()
	}
	return nil
}

// queue is the listener of an HTTP server: connections come to it once their protocol is known.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
}

func (q queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

func (queue) Close() error   { return nil }
func (queue) Addr() net.Addr { return queueAddr{} }

type queueAddr struct{}

func (queueAddr) Network() string { return "egress" }
func (queueAddr) String() string  { return "egress" }
