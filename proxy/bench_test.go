package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"capsid/proxy/ca"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

const (
	benchHost   = "bench.example"
	benchRound  = 1500 * time.Millisecond // one measurement
	benchRounds = 3                       // the ways take turns, so that a noisy moment hits all
	benchBody   = 64 << 20
	benchConns  = 16
)

// way is one way from a client to the upstream.
type way struct {
	name string
	url  string
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	tls  *tls.Config

	requests, p50, p99, connects, download1, download2 []float64
}

// BenchmarkBesideMitmproxy compares this proxy with Debian's mitmproxy and with none, over loopback, in one run. Each way ends TLS on both sides of
// it; ours writes its ledger and asks its policy as in a session; mitmproxy streams bodies, which is its faster setting.
func BenchmarkBesideMitmproxy(b *testing.B) {
	world, up := benchUpstream(b)
	ways := []*way{noProxy(world, up), benchCapsid(b, world, up)}
	if w := benchMitmproxy(b, world, up); w != nil {
		ways = append(ways, w)
	}
	for _, w := range ways { // warm up
		w.fetch(b, w.client(false), "/small")
	}
	for b.Loop() {
		for range benchRounds {
			for _, w := range ways {
				w.measure(b)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
	report(b, ways)
}

func (w *way) measure(b *testing.B) {
	// Many connections at once.
	var n atomic.Int64
	var wg sync.WaitGroup
	c := w.client(false)
	start := time.Now()
	for range benchConns {
		wg.Go(func() {
			for time.Since(start) < benchRound {
				w.fetch(b, c, "/small")
				n.Add(1)
			}
		})
	}
	wg.Wait()
	w.requests = append(w.requests, float64(n.Load())/time.Since(start).Seconds())

	// One after another.
	var each []float64
	for start = time.Now(); time.Since(start) < benchRound; {
		at := time.Now()
		w.fetch(b, c, "/small")
		each = append(each, float64(time.Since(at))/1e3)
	}
	slices.Sort(each)
	w.p50 = append(w.p50, each[len(each)/2])
	w.p99 = append(w.p99, each[len(each)*99/100])
	c.CloseIdleConnections()

	// A new connection for each request.
	count := 0
	for start = time.Now(); time.Since(start) < benchRound; count++ {
		c := w.client(false)
		w.fetch(b, c, "/small")
		c.CloseIdleConnections()
	}
	w.connects = append(w.connects, float64(time.Since(start))/1e3/float64(count))

	for _, h2 := range []bool{false, true} {
		c := w.client(h2)
		w.fetch(b, c, "/small")
		start = time.Now()
		w.fetch(b, c, "/big")
		rate := benchBody / 1e6 / time.Since(start).Seconds()
		if c.CloseIdleConnections(); h2 {
			w.download2 = append(w.download2, rate)
		} else {
			w.download1 = append(w.download1, rate)
		}
	}
}

func (w *way) client(h2 bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!h2)
	p.SetHTTP2(h2)
	return &http.Client{Timeout: 2 * patience, Transport: &http.Transport{
		DialContext: w.dial, TLSClientConfig: w.tls.Clone(), Protocols: &p, MaxIdleConnsPerHost: benchConns, DisableCompression: true,
	}}
}

func (w *way) fetch(b *testing.B, c *http.Client, path string) {
	res, err := c.Get(w.url + path)
	if err != nil {
		b.Errorf("%s: %v", w.name, err)
		return
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 || path == "/big" && n != benchBody {
		b.Errorf("%s: %v, %d bytes, %v", w.name, res.Status, n, err)
	}
}

func report(b *testing.B, ways []*way) {
	var t strings.Builder
	fmt.Fprintf(&t, "\n%-34s", "")
	for _, w := range ways {
		fmt.Fprintf(&t, "%22s", w.name)
	}
	t.WriteByte('\n')
	row := func(title, unit string, of func(*way) []float64, more bool) {
		fmt.Fprintf(&t, "%-34s", title)
		best := median(of(ways[0]))
		for _, w := range ways {
			v := median(of(w))
			ratio := v / best
			if !more {
				ratio = best / v
			}
			fmt.Fprintf(&t, "%13.0f (%5.3f)", v, ratio)
			b.ReportMetric(v, w.name+"-"+unit)
		}
		t.WriteByte('\n')
	}
	row("requests/s, 16 connections", "req/s", func(w *way) []float64 { return w.requests }, true)
	row("latency p50, µs", "p50-µs", func(w *way) []float64 { return w.p50 }, false)
	row("latency p99, µs", "p99-µs", func(w *way) []float64 { return w.p99 }, false)
	row("new TLS connection + request, µs", "connect-µs", func(w *way) []float64 { return w.connects }, false)
	row("download 64 MiB, HTTP/1.1, MB/s", "h1-MB/s", func(w *way) []float64 { return w.download1 }, true)
	row("download 64 MiB, HTTP/2, MB/s", "h2-MB/s", func(w *way) []float64 { return w.download2 }, true)
	fmt.Fprintf(&t, "%-34s", "added latency p50, µs")
	for _, w := range ways {
		fmt.Fprintf(&t, "%13.0f        ", median(w.p50)-median(ways[0].p50))
	}
	fmt.Println(t.String() + "\n(in brackets: how good beside no proxy; 1 is as good)")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func benchUpstream(b *testing.B) (*ca.Authority, string) {
	world, err := ca.Open(filepath.Join(b.TempDir(), "world"))
	if err != nil {
		b.Fatal(err)
	}
	small := []byte(strings.Repeat("x", 1000))
	chunk := make([]byte, 64<<10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/big" {
			w.Write(small)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(benchBody))
		for n := 0; n < benchBody; n += len(chunk) {
			w.Write(chunk)
		}
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "" {
			return world.Leaf("127.0.0.1")
		}
		return world.Leaf(h.ServerName)
	}}
	// httptest puts a certificate of its own first, which would be taken when no name is asked for.
	cert, err := world.Leaf("127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	s.TLS.Certificates = []tls.Certificate{*cert}
	s.StartTLS()
	b.Cleanup(s.Close)
	return world, s.Listener.Addr().String()
}

func pool(a *ca.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Certificate())
	return p
}

func noProxy(world *ca.Authority, up string) *way {
	return &way{name: "no-proxy", url: "https://" + up, dial: (&net.Dialer{}).DialContext, tls: &tls.Config{RootCAs: pool(world)}}
}

// benchCapsid is a whole proxy with its ledger; connections come over loopback with the PROXY header in front.
func benchCapsid(b *testing.B, world *ca.Authority, up string) *way {
	dir := b.TempDir()
	pem := filepath.Join(dir, "world.pem")
	user := filepath.Join(dir, "user.toml")
	text := fmt.Sprintf("[network]\nallow = [%q]\n[network.upstream.%q]\naddress = %q\nca = %q\n", benchHost, benchHost, up, pem)
	if err := errors.Join(os.WriteFile(pem, world.CertPEM(), 0o600), os.WriteFile(user, []byte(text), 0o600)); err != nil {
		b.Fatal(err)
	}
	engine, err := policy.Open(policy.Paths{User: user})
	if err != nil {
		b.Fatal(err)
	}
	authority, err := ca.Open(filepath.Join(dir, "ca"))
	if err != nil {
		b.Fatal(err)
	}
	rows, err := ledger.Open(filepath.Join(dir, "ledger.db"))
	if err != nil {
		b.Fatal(err)
	}
	p, err := New(Config{Session: "bench", Policy: engine, CA: authority, Ledger: rows})
	if err != nil {
		b.Fatal(err)
	}
	l, names := benchListen(b), benchListen(b)
	go p.ServeEgress(l)
	go p.ServeDNS(names)
	b.Cleanup(func() {
		p.Close()
		if err := rows.Close(); err != nil {
			b.Error(err)
		}
	})
	res := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", names.Addr().String())
	}}
	ips, err := res.LookupNetIP(b.Context(), "ip4", benchHost+".")
	if err != nil {
		b.Fatal(err)
	}
	head := proxyHeader(netip.AddrPortFrom(ips[0].Unmap(), 443), "bench")
	return &way{name: "capsid", url: "https://" + benchHost, tls: &tls.Config{RootCAs: pool(authority)},
		dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
			if err == nil {
				_, err = c.Write(head)
			}
			return c, err
		}}
}

func benchListen(b *testing.B) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// benchMitmproxy runs mitmdump in reverse mode, with its folder in a temporary place and upstreams verified with our test authority.
func benchMitmproxy(b *testing.B, world *ca.Authority, up string) *way {
	path, err := exec.LookPath("mitmdump")
	if err != nil {
		b.Log("mitmdump is not installed: no comparison (apt-get install mitmproxy)")
		return nil
	}
	dir := b.TempDir()
	trust := filepath.Join(dir, "world.pem")
	if err := os.WriteFile(trust, world.CertPEM(), 0o600); err != nil {
		b.Fatal(err)
	}
	l := benchListen(b) // only to find a port
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command(path, "--mode", "reverse:https://"+up, "--listen-host", "127.0.0.1", "--listen-port", port,
		"--set", "confdir="+dir, "--set", "ssl_insecure=false", "--set", "ssl_verify_upstream_trusted_ca="+trust,
		"--set", "flow_detail=0", "--set", "stream_large_bodies=1m")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "PYTHONUNBUFFERED=1", "LANG=C.UTF-8"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	drained := make(chan struct{})
	b.Cleanup(func() {
		cmd.Process.Kill()
		<-drained
		cmd.Wait()
	})
	ready := make(chan error, 1)
	go func() {
		defer close(drained)
		var first strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if first.Len() < 4096 {
				fmt.Fprintln(&first, lines.Text())
			}
			if strings.Contains(lines.Text(), "listening") {
				select {
				case ready <- nil:
				default:
				}
			}
		}
		select {
		case ready <- fmt.Errorf("mitmdump ended: %s", first.String()):
		default:
		}
	}()
	select {
	case err = <-ready:
	case <-time.After(2 * patience):
		err = errors.New("mitmdump does not start")
	}
	if err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "mitmproxy-ca-cert.pem"))
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	return &way{name: "mitmproxy", url: "https://127.0.0.1:" + port, dial: (&net.Dialer{}).DialContext, tls: &tls.Config{RootCAs: roots}}
}
