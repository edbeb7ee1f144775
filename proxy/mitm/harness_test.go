package mitm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"capsid/proxy/ca"
	"capsid/proxy/dns"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
	"capsid/proxy/storm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; a machine under load needs it.
const patience = time.Minute

// rig is a Server with a guest in front and upstreams behind.
type rig struct {
	t        testing.TB
	srv      *Server
	table    *dns.Table
	ca       *ca.Authority // the guest trusts it
	world    *ca.Authority // upstreams have certificates of it
	guest    *x509.CertPool
	listener net.Listener
	served   chan error

	mu       sync.Mutex
	allow    map[string]bool // hosts; everything else is "ask"
	private  bool
	override map[string]policy.Upstream
	rows     map[int64]ledger.Entry
	next     int64
	news     chan struct{} // closed at the next row
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, table: dns.NewTable(0), guest: x509.NewCertPool(), allow: map[string]bool{}, override: map[string]policy.Upstream{},
		rows: map[int64]ledger.Entry{}, news: make(chan struct{}), served: make(chan error, 1)}
	var err error
	if r.ca, err = ca.Open(filepath.Join(t.TempDir(), "ca")); err != nil {
		t.Fatal(err)
	}
	if r.world, err = ca.Open(filepath.Join(t.TempDir(), "world")); err != nil {
		t.Fatal(err)
	}
	r.guest.AddCert(r.ca.Certificate())
	refused := storm.New(storm.Config{Add: r.Add, PerKind: 1000, Total: 10000})
	cfg := Config{
		Session: "5e551011", Leaf: r.ca.Leaf, Hold: r.table.Hold, Synthetic: dns.Range.Contains,
		Connect: func(host string, _ int) policy.Verdict { return r.verdict(host) },
		Request: func(q policy.Request) policy.Verdict {
			if strings.HasPrefix(q.Path, "/forbidden") {
				return policy.Verdict{Decision: ledger.Block, Rule: q.Host, Source: "user.toml:7"}
			}
			return r.verdict(q.Host)
		},
		Upstream: func(host string, port int) (policy.Upstream, bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			u, ok := r.override[host]
			return u, ok
		},
		Rows: r, Refused: refused,
	}
	if change != nil {
		change(&cfg)
	}
	r.srv = New(cfg)
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l := r.listener // which tests may replace
	go func() { r.served <- r.srv.Serve(l) }()
	t.Cleanup(func() {
		r.srv.Close()
		if err := <-r.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		refused.Close()
	})
	return r
}

func (r *rig) verdict(host string) policy.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.allow[host] {
		return policy.Verdict{Decision: ledger.Allow, Rule: host, Source: "user.toml:3", PrivateOK: r.private}
	}
	return policy.Verdict{Decision: ledger.Ask, Rule: "default", Source: "built in"}
}

func (r *rig) setAllow(host string, ok bool) {
	r.mu.Lock()
	r.allow[host] = ok
	r.mu.Unlock()
}

// Begin, Finish and Add make the rig a ledger.
func (r *rig) Begin(e ledger.Entry) int64 { return r.put(e) }
func (r *rig) Add(e ledger.Entry) int64   { e.Done = true; return r.put(e) }

func (r *rig) put(e ledger.Entry) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	e.ID = r.next
	r.rows[e.ID] = e
	close(r.news)
	r.news = make(chan struct{})
	return e.ID
}

func (r *rig) Finish(id int64, change func(*ledger.Entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.rows[id]
	change(&e)
	e.Done = true
	r.rows[id] = e
	close(r.news)
	r.news = make(chan struct{})
}

func (r *rig) all() []ledger.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []ledger.Entry
	for i := int64(1); i <= r.next; i++ {
		out = append(out, r.rows[i])
	}
	return out
}

// row waits for a row that satisfies want.
func (r *rig) row(what string, want func(ledger.Entry) bool) ledger.Entry {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		news := r.news
		r.mu.Unlock()
		if i := slices.IndexFunc(r.all(), want); i >= 0 {
			return r.all()[i]
		}
		select {
		case <-news:
		case <-deadline:
			r.t.Fatalf("no row: %s; there are %+v", what, r.all())
		}
	}
}

func done(status int) func(ledger.Entry) bool {
	return func(e ledger.Entry) bool { return e.Done && e.Status == status }
}

// proxyHeader is what the guest's relay writes.
func proxyHeader(dst netip.AddrPort, process string) []byte {
	body := []byte{127, 0, 0, 1, 0, 0, 0, 0, 0x30, 0x39, 0, 0}
	family := byte(familyTCP4)
	if dst.Addr().Is4() {
		a := dst.Addr().As4()
		copy(body[4:], a[:])
		binary.BigEndian.PutUint16(body[10:], dst.Port())
	} else {
		family = familyTCP6
		a := dst.Addr().As16()
		body = append(make([]byte, 16), a[:]...)
		body = append(body, 0x30, 0x39)
		body = binary.BigEndian.AppendUint16(body, dst.Port())
	}
	if process != "" {
		body = append(body, tlvProcess)
		body = binary.BigEndian.AppendUint16(body, uint16(len(process)))
		body = append(body, process...)
	}
	h := append([]byte(signature), versionProxy, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(body)))
	return append(h, body...)
}

// dial connects as a program in the machine does: host is a name or an address.
func (r *rig) dial(host string, port int) net.Conn {
	r.t.Helper()
	c, err := r.tryDial(host, port)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) tryDial(host string, port int) (net.Conn, error) {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if addr, err = r.table.Bind(host); err != nil {
			return nil, err
		}
	}
	c, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(proxyHeader(netip.AddrPortFrom(addr, uint16(port)), "curl")); err != nil {
		return nil, err
	}
	return c, nil
}

// client is an HTTP client in the machine.
func (r *rig) client(h2 bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!h2)
	p.SetHTTP2(h2)
	t := &http.Transport{
		Protocols: &p, TLSClientConfig: &tls.Config{RootCAs: r.guest}, DisableCompression: true, ExpectContinueTimeout: patience,
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			n, err := strconv.Atoi(port)
			if err != nil {
				return nil, err
			}
			return r.tryDial(host, n)
		},
	}
	r.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 3 * time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// upstream starts a TLS server for host and allows it. h2 says whether it speaks HTTP/2.
func (r *rig) upstream(host string, h2 bool, h http.Handler) *httptest.Server {
	r.t.Helper()
	cert, err := r.world.Leaf(host)
	if err != nil {
		r.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	r.t.Cleanup(s.Close)
	r.route(host, s.Listener.Addr().String())
	return s
}

func (r *rig) route(host, address string) {
	pool := x509.NewCertPool()
	pool.AddCert(r.world.Certificate())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.allow[host] = true
	r.override[host] = policy.Upstream{Address: address, RootCAs: pool}
}

// recorder is an upstream that keeps the bytes of requests as they come and answers each with 200.
type recorder struct {
	l  net.Listener
	mu sync.Mutex
	b  bytes.Buffer
	wg sync.WaitGroup
}

func (r *rig) record(host string) *recorder {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	rec := &recorder{l: l}
	r.route(host, l.Addr().String())
	rec.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			rec.wg.Go(func() {
				defer c.Close()
				rec.serve(c)
			})
		}
	})
	r.t.Cleanup(func() {
		l.Close()
		r.srv.Close() // its idle connections end the recorder's
		rec.wg.Wait()
	})
	return rec
}

func (rec *recorder) serve(c net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		rec.mu.Lock()
		rec.b.Write(buf[:n])
		rec.mu.Unlock()
		if n := bytes.Count(buf[:n], []byte(" HTTP/1.1\r\n")); n > 0 {
			io.WriteString(c, strings.Repeat("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", n))
		}
	}
}

func (rec *recorder) seen() string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.b.String()
}

func get(t testing.TB, c *http.Client, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(t, c, req)
}

func do(t testing.TB, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", req.Method, req.URL, err)
	}
	return res, string(body)
}

// protocols runs a test with each pair of HTTP versions.
func protocols(t *testing.T, run func(t *testing.T, guest, upstream bool)) {
	for _, g := range []bool{false, true} {
		for _, u := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d to %d", 1+b2i(g), 1+b2i(u)), func(t *testing.T) { run(t, g, u) })
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
