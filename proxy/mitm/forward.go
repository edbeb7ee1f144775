package mitm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// reverseProxy does what RFC 9110 §7.6 wants of an intermediary: hop-by-hop fields, 1xx responses, trailers, upgrades.
func (s *Server) reverseProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:   rewrite,
		Transport: (*transport)(s),
		// Bodies of unknown length and event streams are flushed piece by piece, at once. Where the length is known, a small
		// response may leave as one piece with its header; a slow one is not held back for longer than this.
		FlushInterval:  time.Millisecond,
		ModifyResponse: receive,
		ErrorHandler:   s.fail,
		BufferPool:     &buffers{},
		ErrorLog:       log.New(logWriter{s.cfg.Log}, "", 0),
	}
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// rewrite addresses the request to the decided host, whatever it says itself.
func rewrite(p *httputil.ProxyRequest) {
	x := exchangeOf(p.In.Context())
	out := p.Out
	out.URL.Scheme, out.URL.Host, out.URL.User = x.conn.scheme(), net.JoinHostPort(x.conn.host, fmt.Sprint(x.conn.port)), nil
	out.Host = x.conn.authority()
	// The reverse proxy takes these out, for servers that it guards; here they are the guest's own business.
	out.URL.RawQuery = p.In.URL.RawQuery
	for _, k := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := p.In.Header[k]; ok {
			out.Header[k] = v
		}
	}
	if out.Body != nil {
		out.Body = &requestBody{ReadCloser: out.Body, n: &x.sent, from: p.In, to: out.Trailer}
	}
}

// requestBody counts, and carries trailers over: net/http fills them in when the body has ended.
type requestBody struct {
	io.ReadCloser
	n    *atomic.Int64
	from *http.Request
	to   http.Header
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	if err == io.EOF {
		for k := range b.to { // those that were announced
			b.to[k] = b.from.Trailer[k]
		}
	}
	return n, err
}

// receive looks at a response's header before it is passed on.
func receive(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	x.status.Store(int32(res.StatusCode))
	dropProxyFields(res.Header)
	delete(res.Header, "Alt-Svc") // it advertises HTTP/3, and UDP goes nowhere
	if len(res.Trailer) > 0 && !x.conn.http2 {
		delete(res.Header, "Content-Length") // HTTP/2 may have both, HTTP/1.1 has trailers after chunks only (RFC 9112 §7.1.2)
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		x.out.Header()["Content-Type"] = nil // or net/http would guess one
	}
	if rw, ok := res.Body.(io.ReadWriteCloser); ok && res.StatusCode == http.StatusSwitchingProtocols {
		res.Body = &upgradedBody{ReadWriteCloser: rw, x: x}
	} else {
		res.Body = &responseBody{ReadCloser: res.Body, n: &x.received}
	}
	return nil
}

type responseBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// upgradedBody is the upstream's side of a WebSocket.
type upgradedBody struct {
	io.ReadWriteCloser
	x *exchange
}

func (b *upgradedBody) Read(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Read(p)
	b.x.received.Add(int64(n))
	return n, err
}

func (b *upgradedBody) Write(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Write(p)
	b.x.sent.Add(int64(n))
	return n, err
}

// fail answers a request whose upstream could not be had, or that was refused on the way there.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	f := &failure{reason: upstreamReason(x.conn.host, err)}
	status := http.StatusBadGateway
	var private *privateError
	var revoked *revokedError
	switch {
	case errors.As(context.Cause(r.Context()), &revoked):
		v := revoked.verdict
		f.verdict, status = &v, http.StatusForbidden
		f.reason = v.Reason
	case errors.As(err, &private):
		v := builtIn("private addresses", fmt.Sprintf("%s leads to %s; only a rule in a policy file that names it with private = true can open it", x.conn.host, private))
		f.verdict, status = &v, http.StatusForbidden
		f.reason = v.Reason
	case r.Context().Err() != nil:
		x.failure.Store(&failure{reason: "the program in the machine ended the request"})
		panic(http.ErrAbortHandler)
	}
	x.status.Store(int32(status))
	x.failure.Store(f)
	d := s.notice(r, x.conn, status)
	d.Reason = f.reason
	if f.verdict != nil {
		d.Decision, d.Rule, d.Source = f.verdict.Decision, f.verdict.Rule, f.verdict.Source
	}
	d.write(w, r.Header.Get("Accept"))
}

// upstreamReason says in a person's words why an upstream failed.
func upstreamReason(host string, err error) string {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "the host's resolver knows no address of " + host
		}
		return "the host could not resolve " + host + ": " + dns.Err
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid), errors.As(err, &verify):
		return "the server's certificate could not be verified: " + strings.TrimPrefix(err.Error(), "tls: failed to verify certificate: ")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection without a response"
	}
	return "the server could not be reached: " + err.Error()
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

const bufferSize = 64 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) {
	if cap(p) >= bufferSize {
		b.pool.Put((*[bufferSize]byte)(p[:bufferSize]))
	}
}
