package mitm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// exchange is one request under way and its response.
type exchange struct {
	conn    *guestConn
	request policy.Request
	verdict policy.Verdict
	cancel  context.CancelCauseFunc
	out     http.ResponseWriter

	status         atomic.Int32
	sent, received atomic.Int64
	failure        atomic.Pointer[failure]
}

// failure is why an exchange that was allowed did not end well.
type failure struct {
	verdict *policy.Verdict // not nil: it was refused after all
	reason  string
}

type exchangeKey struct{}

// revokedError ends an exchange that a changed policy does not allow any more.
type revokedError struct{ verdict policy.Verdict }

func (e *revokedError) Error() string { return "policy changed" }

// ServeHTTP decides about one request and carries it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := r.Context().Value(connKey{}).(*guestConn)
	c.half.Store(false)
	if status, v := s.vet(c, r); status != 0 {
		s.refuse(w, r, c, status, v, start)
		return
	}
	request := policy.Request{Host: c.host, Port: c.port, Method: r.Method, Path: r.URL.Path}
	if request.Path == "" {
		request.Path = "/"
	}
	v := unboundVerdict
	if !c.unbound {
		v = s.cfg.Request(request)
	}
	if v.Decision != ledger.Allow {
		s.refuse(w, r, c, http.StatusForbidden, v, start)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.refuse(w, r, c, http.StatusServiceUnavailable, builtIn("request limit", "too many requests are under way in this machine"), start)
		return
	}
	s.forward(w, r, &exchange{conn: c, request: request, verdict: v, out: w}, start)
}

// vet checks that a request is meant for the host that the connection was decided for. A status other than 0 refuses it.
func (s *Server) vet(c *guestConn, r *http.Request) (int, policy.Verdict) {
	if c.foreign != "" {
		return http.StatusMisdirectedRequest, builtIn("server name", fmt.Sprintf("the TLS server name is %.253q, but the connection was made to %s", c.foreign, c.host))
	}
	if r.Method == http.MethodConnect {
		return http.StatusMethodNotAllowed, builtIn("CONNECT", fmt.Sprintf("a tunnel to %.253q was asked for, but this is no proxy to ask: connections go out as they are made", r.Host))
	}
	authorities := append([]string{r.Host, r.URL.Host}, r.Header["Host"]...)
	if r.Host == "" && r.ProtoAtLeast(1, 1) {
		return http.StatusBadRequest, builtIn("HTTP", "the request names no host")
	}
	for _, a := range authorities {
		if a != "" && !c.means(a) {
			return http.StatusMisdirectedRequest, builtIn("host", fmt.Sprintf("the request is for %.253q, but the connection was made to %s", a, c.authority()))
		}
	}
	if r.URL.Scheme != "" && r.URL.Scheme != c.scheme() {
		return http.StatusMisdirectedRequest, builtIn("host", fmt.Sprintf("the request is for the scheme %.20q, but the connection speaks %s", r.URL.Scheme, c.scheme()))
	}
	return 0, policy.Verdict{}
}

// means reports whether an authority (host, or host:port) is the decided one. A missing port is let pass: what is sent on names the decided port.
func (c *guestConn) means(authority string) bool {
	host, port := authority, ""
	if h, p, err := net.SplitHostPort(authority); err == nil {
		host, port = h, p
	}
	if port != "" && port != strconv.Itoa(c.port) {
		return false
	}
	name, err := policy.Canonical(host)
	return err == nil && name == c.host
}

func (c *guestConn) scheme() string {
	if c.secure {
		return "https"
	}
	return "http"
}

// authority is the decided host, with its port where that is not the scheme's own.
func (c *guestConn) authority() string {
	if c.secure && c.port == 443 || !c.secure && c.port == 80 {
		if strings.Contains(c.host, ":") {
			return "[" + c.host + "]"
		}
		return c.host
	}
	return net.JoinHostPort(c.host, strconv.Itoa(c.port))
}

// forward carries an allowed request. However it ends, its row is completed.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, x *exchange, start time.Time) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	x.cancel = cancel
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	s.exchanges[x] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	id := s.cfg.Rows.Begin(s.entry(r, x.conn, x.verdict, start))
	defer func() {
		s.cfg.Rows.Finish(id, func(e *ledger.Entry) {
			e.Status = int(x.status.Load())
			e.Sent, e.Received = x.sent.Load(), x.received.Load()
			e.Duration = time.Since(start)
			var revoked *revokedError
			if errors.As(context.Cause(ctx), &revoked) {
				e.Reason = fmt.Sprintf("ended when the policy changed: %s, %s (%s)", revoked.verdict.Decision, revoked.verdict.Rule, revoked.verdict.Source)
			} else if f := x.failure.Load(); f != nil {
				e.Reason = f.reason
				if f.verdict != nil {
					e.Decision, e.Rule, e.Source = f.verdict.Decision, f.verdict.Rule, f.verdict.Source
				}
			}
		})
		s.mu.Lock()
		delete(s.exchanges, x)
		s.mu.Unlock()
		s.wg.Done()
	}()
	// The policy may have changed before the exchange could be found by Recheck.
	if v := s.cfg.Request(x.request); v.Decision != ledger.Allow {
		cancel(&revokedError{v})
	}
	prepareRequest(r)
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// So that a response can begin before the request has ended, as on HTTP/2.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			s.cfg.Log.Debug("full duplex", "error", err)
		}
	}
	s.proxy.ServeHTTP(w, r.WithContext(context.WithValue(ctx, exchangeKey{}, x)))
}

// prepareRequest takes out what must not be passed on. Hop-by-hop fields go in the reverse proxy.
func prepareRequest(r *http.Request) {
	websocket := r.ProtoMajor == 1 && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && len(r.Header["Upgrade"]) == 1
	if !websocket {
		// A server may ignore the wish for another protocol (RFC 9110 §7.8), and here it is one that could not be looked into.
		delete(r.Header, "Upgrade")
		delete(r.Header, "Http2-Settings")
	}
	delete(r.Header, "Host")
	dropProxyFields(r.Header)
}

func dropProxyFields(h http.Header) {
	for k := range h {
		if strings.HasPrefix(k, "Proxy-") {
			delete(h, k)
		}
	}
}

// entry is the row of a request.
func (s *Server) entry(r *http.Request, c *guestConn, v policy.Verdict, start time.Time) ledger.Entry {
	return ledger.Entry{
		Time: start, Session: s.cfg.Session, Kind: ledger.HTTP, Process: c.process, Method: r.Method, URL: rowURL(c, r.URL),
		Host: c.host, Port: c.port, Decision: v.Decision, Rule: v.Rule, Source: v.Source, Reason: v.Reason,
	}
}

const maxURL = 2048 // bytes, in a row

// rowURL is a URL as it is recorded: the decided authority, no user, and no value of a query field that is a credential by its name.
func rowURL(c *guestConn, u *url.URL) string {
	var b strings.Builder
	b.WriteString(c.scheme() + "://" + c.authority())
	path := u.EscapedPath()
	if u.Opaque != "" {
		path = ""
	}
	if !strings.HasPrefix(path, "/") {
		b.WriteByte('/')
	}
	b.WriteString(path)
	if u.RawQuery != "" {
		b.WriteByte('?')
		for i, f := range strings.Split(u.RawQuery, "&") {
			if i > 0 {
				b.WriteByte('&')
			}
			if k, _, ok := strings.Cut(f, "="); ok && credential(k) {
				f = k + "=…"
			}
			b.WriteString(f)
			if b.Len() > maxURL {
				break
			}
		}
	}
	return strings.ToValidUTF8(b.String()[:min(b.Len(), maxURL)], "")
}

// credential reports whether a query field's name is one that services use for keys, tokens and signatures.
func credential(field string) bool {
	if k, err := url.QueryUnescape(field); err == nil {
		field = k
	}
	field = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(field))
	switch field {
	case "key", "sig", "code", "auth", "pwd", "assertion":
		return true
	}
	for _, part := range []string{"token", "apikey", "accesskey", "password", "passwd", "secret", "signature", "credential", "authorization"} {
		if strings.Contains(field, part) {
			return true
		}
	}
	return false
}
