package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"capsid/guest/link"
	"capsid/proxy/ca"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

const patience = time.Minute

// machine is a Proxy and, at the other end of a link, what a guest's relay does.
type machine struct {
	t      testing.TB
	proxy  *Proxy
	policy *policy.Engine
	ledger *ledger.Ledger
	user   string // the policy file
	guest  link.Link
	trust  *x509.CertPool
	dir    string
	world  *ca.Authority
	pem    string // of the world's authority
}

func start(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), trust: x509.NewCertPool()}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	m.world, err = ca.Open(filepath.Join(m.dir, "world"))
	check(err)
	m.pem = filepath.Join(m.dir, "world.pem")
	check(os.WriteFile(m.pem, m.world.CertPEM(), 0o644))
	m.user = filepath.Join(m.dir, "user.toml")
	m.policy, err = policy.Open(policy.Paths{User: m.user})
	check(err)
	authority, err := ca.Open(filepath.Join(m.dir, "ca"))
	check(err)
	m.trust.AddCert(authority.Certificate())
	m.ledger, err = ledger.Open(filepath.Join(m.dir, "ledger.db"))
	check(err)
	m.proxy, err = New(Config{Session: "0badcafe", Policy: m.policy, CA: authority, Ledger: m.ledger})
	check(err)
	hostEnd, guestEnd := net.Pipe()
	host := link.NewMux(hostEnd, link.Host)
	m.guest = link.NewMux(guestEnd, link.Guest)
	egress, err := host.Listen(link.Egress)
	check(err)
	names, err := host.Listen(link.DNS)
	check(err)
	served := make(chan error, 2)
	go func() { served <- m.proxy.ServeEgress(egress) }()
	go func() { served <- m.proxy.ServeDNS(names) }()
	t.Cleanup(func() {
		m.proxy.Close()
		for range 2 {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
		m.guest.Close()
		host.Close()
		if err := m.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// write replaces the policy and takes it up.
func (m *machine) write(text string) {
	m.t.Helper()
	if err := os.WriteFile(m.user, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := m.policy.Reload(); err != nil {
		m.t.Fatal(err)
	}
}

// serve starts an upstream and returns the policy's lines that lead to it.
func (m *machine) serve(host string, h http.Handler) string {
	m.t.Helper()
	cert, err := m.world.Leaf(host)
	if err != nil {
		m.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	s.StartTLS()
	m.t.Cleanup(s.Close)
	return fmt.Sprintf("[network.upstream.%q]\naddress = %q\nca = %q\n", host, s.Listener.Addr(), m.pem)
}

func (m *machine) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.guest.Dial(ctx, link.DNS)
	}}
}

// dial resolves and connects, as a program in the machine does.
func (m *machine) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		list, err := m.resolver().LookupNetIP(ctx, "ip4", host+".")
		if err != nil {
			return nil, err
		}
		a = list[0].Unmap()
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	c, err := m.guest.Dial(ctx, link.Egress)
	if err != nil {
		return nil, err
	}
	_, err = c.Write(proxyHeader(netip.AddrPortFrom(a, uint16(n)), "node"))
	return c, err
}

// proxyHeader is PROXY v2 for TCP over IPv4, with the claim of a process.
func proxyHeader(dst netip.AddrPort, process string) []byte {
	a := dst.Addr().As4()
	body := append([]byte{10, 0, 0, 2}, a[:]...)
	body = append(body, 0xc0, 0)
	body = binary.BigEndian.AppendUint16(body, dst.Port())
	body = append(body, 0xE0)
	body = binary.BigEndian.AppendUint16(body, uint16(len(process)))
	body = append(body, process...)
	h := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11")
	return append(binary.BigEndian.AppendUint16(h, uint16(len(body))), body...)
}

func (m *machine) client() *http.Client {
	t := &http.Transport{DialContext: m.dial, TLSClientConfig: &tls.Config{RootCAs: m.trust}, ForceAttemptHTTP2: true}
	m.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 2 * patience}
}

func (m *machine) get(c *http.Client, url string) (int, string) {
	m.t.Helper()
	res, err := c.Get(url)
	if err != nil {
		m.t.Fatalf("%s: %v", url, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Fatalf("%s: %v", url, err)
	}
	return res.StatusCode, string(b)
}

// row waits for a row.
func (m *machine) row(what string, want func(ledger.Entry) bool) ledger.Entry {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	news := m.ledger.Follow(ctx)
	for {
		all, err := m.ledger.Query(ledger.Query{})
		if err != nil {
			m.t.Fatal(err)
		}
		if i := slices.IndexFunc(all, want); i >= 0 {
			return all[i]
		}
		if _, ok := <-news; !ok {
			m.t.Fatalf("no row: %s; there are %+v", what, all)
		}
	}
}

func TestOneSession(t *testing.T) {
	m := start(t)
	seen := make(chan string, 100)
	up := m.serve("api.example", http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		seen <- q.Method + " " + q.URL.Path
		io.WriteString(w, "hello from "+q.Host)
	}))
	m.write("[network]\nallow = [\"api.example\"]\n" + up)
	c := m.client()

	if code, body := m.get(c, "https://api.example/v1/messages"); code != 200 || body != "hello from api.example" {
		t.Errorf("%d %q", code, body)
	}
	e := m.row("of the request", func(e ledger.Entry) bool { return e.Done && e.Status == 200 })
	if e.Host != "api.example" || e.Process != "node" || e.Source != "user.toml:2" || e.Session != "0badcafe" || e.Received != 22 {
		t.Errorf("%+v", e)
	}

	// An unlisted name, a direct address, and a try to send data in questions.
	code, body := m.get(c, "https://unlisted.example/exfiltrate")
	if code != 403 || !strings.Contains(body, "capsid allow unlisted.example --session 0badcafe") {
		t.Errorf("%d %s", code, body)
	}
	if code, body = m.get(c, "http://93.184.215.14/"); code != 403 {
		t.Errorf("%d %s", code, body)
	}
	if code, body = m.get(c, "http://169.254.169.254/latest/meta-data"); code != 403 || strings.Contains(body, "capsid allow") {
		t.Errorf("%d %s", code, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if txt, err := m.resolver().LookupTXT(ctx, "c2VjcmV0.tunnel.example."); err == nil {
		t.Errorf("TXT %v", txt)
	}
	m.row("of the unlisted name", func(e ledger.Entry) bool {
		return e.Host == "unlisted.example" && e.Decision == ledger.Ask && e.Status == 403
	})
	m.row("of the address", func(e ledger.Entry) bool { return e.Host == "93.184.215.14" && e.Decision != ledger.Allow })
	m.row("of metadata", func(e ledger.Entry) bool { return e.Host == "169.254.169.254" && e.Decision == ledger.Block })
	m.row("of the tunnel", func(e ledger.Entry) bool {
		return e.Kind == ledger.DNS && e.Host == "c2vjcmv0.tunnel.example" && e.Method == "TXT"
	})
	groups, err := m.ledger.Pending()
	if err != nil || !slices.ContainsFunc(groups, func(g ledger.Group) bool { return g.Domain == "unlisted.example" }) {
		t.Errorf("%+v %v", groups, err)
	}

	// A change of policy holds for the next request on the same connection.
	m.write("[network]\nallow = [\"api.example\"]\nblock = [\"*.api.example\"]\n[[network.rule]]\nhost = \"api.example\"\nmethods = [\"DELETE\"]\naction = \"block\"\n" + up)
	req, _ := http.NewRequest("DELETE", "https://api.example/v1/files", nil)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 403 || res.Header.Get("Capsid-Decision") != "block" {
		t.Error(res.Status)
	}
	if code, _ := m.get(c, "https://api.example/still"); code != 200 {
		t.Error(code)
	}
	if got := <-seen + ", " + <-seen; got != "GET /v1/messages, GET /still" || len(seen) != 0 {
		t.Errorf("the upstream saw %s and %d more", got, len(seen))
	}
}

func TestReloadEndsWhatIsOpen(t *testing.T) {
	m := start(t)
	up := m.serve("ws.example", http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c, err := websocket.Accept(w, q, nil)
		if err == nil {
			<-c.CloseRead(context.Background()).Done()
			c.CloseNow()
		}
	}))
	m.write("[network]\nallow = [\"ws.example\"]\n" + up)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	hc := m.client()
	hc.Timeout = 0
	hc.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	c, _, err := websocket.Dial(ctx, "wss://ws.example/", &websocket.DialOptions{HTTPClient: hc})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	m.write("[network]\nallow = [\"ws.example\"]\nblock = [\"other.example\"]\n" + up)
	if err := c.Ping(c.CloseRead(ctx)); err != nil {
		t.Errorf("a change that does not matter: %v", err)
	}
	m.write("[network]\nblock = [\"ws.example\"]\n")
	m.row("of the end", func(e ledger.Entry) bool {
		return e.Done && e.Status == 101 && strings.Contains(e.Reason, "user.toml:2")
	})
	if err := c.Ping(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the socket lives on: %v", err)
	}
}

// TestCurl: a client that is not ours, over a relay on loopback.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	m := start(t)
	m.write("[network]\nallow = [\"api.example\"]\n" +
		m.serve("api.example", http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { io.Copy(w, q.Body) })))
	trust := filepath.Join(m.dir, "trust.pem")
	if err := os.WriteFile(trust, mustPEM(t, filepath.Join(m.dir, "ca")), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := m.dial(t.Context(), "tcp", "api.example:443")
				if err != nil {
					return
				}
				defer out.Close()
				go io.Copy(out, in)
				io.Copy(in, out)
			}()
		}
	}()
	for _, args := range [][]string{{"--http1.1"}, {"--http2"}, {"--http1.1", "-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"}} {
		args = append(args, "-sS", "--cacert", trust, "--connect-to", "::"+l.Addr().String(), "-d", "payload", "-w", " %{http_code}", "https://api.example/")
		cmd := exec.CommandContext(t.Context(), curl, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != "payload 200" {
			t.Errorf("curl %v: %v %s", args, err, out)
		}
	}
}

func mustPEM(t *testing.T, dir string) []byte {
	t.Helper()
	a, err := ca.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a.CertPEM()
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no error")
	}
}
