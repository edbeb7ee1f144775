package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// guestConn is one connection of the guest.
type guestConn struct {
	net.Conn
	srv *Server

	host    string // decided: a name, or an IP literal when the guest connected to an address
	port    int
	process string // a claim
	unbound bool   // the address is of the synthetic range and stands for no name
	foreign string // the TLS server name, when it is not the decided one
	secure  bool   // TLS
	http2   bool   // no HTTP/1 requests come on it

	release func()
	first   [maxSniff]byte
	unread  []byte // of first

	half atomic.Bool // bytes of a request have come that the handler has not seen
	once sync.Once
}

// Read returns what was sniffed, then what comes.
func (c *guestConn) Read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		// crypto/tls takes a connection for broken after a time-out that is not Temporary, as yamux's is not; net/http uses time-outs
		// to interrupt reads.
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// CloseWrite ends this side's bytes.
func (c *guestConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Close may be called more than once: net/http, crypto/tls and Server.Close all do.
func (c *guestConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		if c.release != nil {
			c.release()
		}
		c.srv.leave(c)
	})
	return err
}

func guestOf(c net.Conn) *guestConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*guestConn)
}

// carry brings a connection to the HTTP server, or ends it.
func (s *Server) carry(c *guestConn) {
	next, err := s.prepare(c)
	if err == nil {
		q := s.queue
		if c.http2 && !c.secure {
			q = s.queue2
		}
		if q.put(next) {
			return
		}
	}
	c.Close()
}

// prepare reads the PROXY header and the first bytes, and ends TLS. Where it fails it has recorded why.
func (s *Server) prepare(c *guestConn) (net.Conn, error) {
	c.SetDeadline(time.Now().Add(s.cfg.HeaderTimeout))
	h, err := readHeader(c.Conn)
	if err != nil {
		s.refuseConn(c, builtIn("PROXY header", "the stream does not begin as it must: "+err.Error()), 0)
		return nil, err
	}
	s.decide(c, h)
	v := s.connect(c)
	silence := s.cfg.Silence
	if v.Decision != ledger.Allow {
		silence = s.cfg.SilenceRefused
	}
	c.SetDeadline(time.Now().Add(silence))
	p, n, err := firstBytes(c)
	if err != nil {
		switch {
		case v.Decision != ledger.Allow:
			s.refuseConn(c, v, 0)
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.refuseConn(c, builtIn("protocols", fmt.Sprintf("nothing was said for %v: protocols in which the server speaks first do not pass, only TLS and HTTP do", silence)), 0)
		case n > 0:
			s.refuseConn(c, builtIn("protocols", "the connection ended before it was clear what it speaks"), 0)
		}
		return nil, err
	}
	c.unread = c.first[:n]
	c.SetDeadline(time.Time{})
	switch p {
	case isHTTP:
		c.http2 = n >= 4 && string(c.first[:4]) == "PRI " // RFC 9113 §3.4
		return c, nil
	case isTLS:
		c.secure = true
		return s.handshake(c, v)
	}
	if v.Decision == ledger.Allow {
		v = builtIn("protocols", describe(c.first[:n])+" does not pass: only TLS and HTTP do")
	}
	s.refuseConn(c, v, 0)
	return nil, errors.New("not TLS or HTTP")
}

// decide fixes where the connection goes.
func (s *Server) decide(c *guestConn, h header) {
	c.port, c.process = int(h.dst.Port()), h.process
	addr := h.dst.Addr().WithZone("")
	if name, release, ok := s.cfg.Hold(addr); ok {
		c.host, c.release = name, release
		return
	}
	c.host, c.unbound = addr.String(), s.cfg.Synthetic(addr)
}

// connect asks about the connection; allowed means that some request on it could be.
func (s *Server) connect(c *guestConn) policy.Verdict {
	if c.unbound {
		return unboundVerdict
	}
	return s.cfg.Connect(c.host, c.port)
}

var unboundVerdict = builtIn("synthetic addresses", "no name of this session stands for this address; connect by name")

func builtIn(rule, reason string) policy.Verdict {
	return policy.Verdict{Decision: ledger.Block, Rule: rule, Source: "built in", Reason: reason}
}

// firstBytes reads until the protocol is clear, into c.first.
func firstBytes(c *guestConn) (protocol, int, error) {
	n := 0
	for {
		m, err := c.Read(c.first[n:])
		n += m
		if p := sniff(c.first[:n]); p != unsure {
			return p, n, nil
		}
		if err != nil {
			return unsure, n, err
		}
	}
}

func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// Small first records are for networks with losses; here each record is a message over the link.
		DynamicRecordSizingDisabled: true,
		// Called for resumed sessions as well, as GetCertificate is not. One Config for all connections shares the ticket keys.
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c := guestOf(hello.Conn)
			if hello.ServerName != "" {
				if name, err := policy.Canonical(hello.ServerName); err != nil || name != c.host {
					c.foreign = hello.ServerName
				}
			}
			return nil, nil
		},
		// A foreign name is given its leaf, so that the client goes on to read why it is refused.
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := guestOf(hello.Conn)
			if c.foreign != "" {
				if name, err := policy.Canonical(c.foreign); err == nil {
					return s.cfg.Leaf(name)
				}
			}
			return s.cfg.Leaf(c.host)
		},
	}
}

func (s *Server) handshake(c *guestConn, v policy.Verdict) (net.Conn, error) {
	t := tls.Server(c, s.tls)
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.HeaderTimeout)
	defer cancel()
	err := t.HandshakeContext(ctx)
	if c.foreign != "" {
		s.refuseConn(c, builtIn("server name", fmt.Sprintf("the TLS server name is %.253q, but the connection was made to %s", c.foreign, c.host)), http.StatusMisdirectedRequest)
	}
	if err != nil {
		if c.foreign == "" {
			if v.Decision == ledger.Allow {
				v = builtIn("TLS", tlsReason(err))
			}
			s.refuseConn(c, v, 0)
		}
		return nil, err
	}
	c.http2 = t.ConnectionState().NegotiatedProtocol == "h2"
	return t, nil
}

func tlsReason(err error) string {
	var alert tls.AlertError
	switch {
	case errors.As(err, &alert):
		return "the program refused the certificate or the handshake (" + alert.Error() + "): it may pin its server's key, or not read the system's trust store"
	case errors.Is(err, io.EOF):
		return "the program ended the TLS handshake: it may pin its server's key, or not read the system's trust store"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "the TLS handshake took too long"
	}
	return "the TLS handshake failed: " + err.Error()
}

// connState finds requests that net/http refuses before the handler sees them: bytes came, and the connection closes.
func (s *Server) connState(conn net.Conn, state http.ConnState) {
	c := guestOf(conn)
	if c.http2 {
		return // its streams end without their connection
	}
	switch state {
	case http.StateActive:
		c.half.Store(true)
	case http.StateClosed:
		if c.half.Load() {
			s.refuseConn(c, builtIn("HTTP", "what came was not a whole, well-formed request"), http.StatusBadRequest)
		}
	}
}

// refuseConn records a connection that ends without a request.
func (s *Server) refuseConn(c *guestConn, v policy.Verdict, status int) {
	if s.ctx.Err() != nil {
		return // it ends because everything does
	}
	s.cfg.Refused.Add(ledger.Entry{
		Time: time.Now(), Session: s.cfg.Session, Kind: ledger.Connect, Process: c.process, Host: c.host, Port: c.port,
		Status: status, Done: true, Decision: v.Decision, Rule: v.Rule, Source: v.Source, Reason: v.Reason,
	})
}
