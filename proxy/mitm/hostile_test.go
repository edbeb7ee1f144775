package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// exchangeRaw writes bytes as a program in the machine could and returns all that comes back.
func (r *rig) exchangeRaw(host string, port int, secure bool, in string) string {
	r.t.Helper()
	c := r.dial(host, port)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if secure {
		c = tls.Client(c, &tls.Config{RootCAs: r.guest, ServerName: host})
	}
	if _, err := io.WriteString(c, in); err != nil {
		r.t.Fatal(err)
	}
	out, _ := io.ReadAll(c)
	return string(out)
}

// TestHostileRequests: what leaves is what policy allowed, in one canonical form, and each try is a row.
func TestHostileRequests(t *testing.T) {
	const end = "Connection: close\r\n\r\n"
	for _, c := range []struct {
		name, in string
		status   string   // begins the first answer
		row      int      // status of a row with a refusal; 0: none
		leaves   []string // exact request lines and fields that the upstream may see; nil: nothing
	}{
		{"ordinary", "GET /a HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 200", 0, []string{"GET /a HTTP/1.1", "Host: ok.example"}},
		{"host in capitals with dot and port", "GET /a HTTP/1.1\r\nHost: OK.Example.:80\r\n" + end, "HTTP/1.1 200", 0, []string{"Host: ok.example"}},
		{"other host", "GET / HTTP/1.1\r\nHost: evil.example\r\n" + end, "HTTP/1.1 421", 421, nil},
		{"other port", "GET / HTTP/1.1\r\nHost: ok.example:81\r\n" + end, "HTTP/1.1 421", 421, nil},
		{"user in host", "GET / HTTP/1.1\r\nHost: x@ok.example\r\n" + end, "HTTP/1.1 400", 400, nil},
		{"two hosts", "GET / HTTP/1.1\r\nHost: ok.example\r\nHost: evil.example\r\n" + end, "HTTP/1.1 400", 400, nil},
		{"no host", "GET / HTTP/1.1\r\n" + end, "HTTP/1.1 400", 400, nil},
		{"HTTP/1.0 without host", "GET /old HTTP/1.0\r\n\r\n", "HTTP/1.0 200", 0, []string{"GET /old HTTP/1.1", "Host: ok.example"}},
		{"absolute form", "GET http://ok.example/abs HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 200", 0, []string{"GET /abs HTTP/1.1", "Host: ok.example"}},
		{"absolute form of another", "GET http://evil.example/ HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 421", 421, nil},
		{"absolute form over another host", "GET http://ok.example/abs HTTP/1.1\r\nHost: evil.example\r\n" + end, "HTTP/1.1 200", 0, []string{"GET /abs HTTP/1.1", "Host: ok.example"}},
		{"absolute form of another scheme", "GET https://ok.example/ HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 421", 421, nil},
		{"absolute form with user", "GET http://u:p@ok.example/ HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 200", 0, []string{"GET / HTTP/1.1", "Host: ok.example"}},
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n" + end, "HTTP/1.1 405", 405, nil},
		{"CONNECT to itself", "CONNECT ok.example:80 HTTP/1.1\r\nHost: ok.example:80\r\n" + end, "HTTP/1.1 405", 405, nil},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 200", 0, []string{"OPTIONS * HTTP/1.1"}},
		{"CL.TE", "POST / HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n",
			"HTTP/1.1 ", 421, []string{"POST / HTTP/1.1", "Host: ok.example"}},
		{"TE.CL", "POST / HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2e\r\nGET /smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n\r\n0\r\n\r\n",
			"HTTP/1.1 ", -1, []string{"POST / HTTP/1.1", "Host: ok.example", "GET /smuggled HTTP/1.1", "Host: evil.example"}}, // as a chunk's content
		{"TE.TE", "POST / HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "HTTP/1.1 501", 400, nil},
		{"TE with a vertical tab", "POST / HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 ", 400, nil},
		{"space before the colon", "POST / HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400", 400, nil},
		{"two lengths", "POST / HTTP/1.1\r\nHost: ok.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 400", 400, nil},
		{"signed length", "POST / HTTP/1.1\r\nHost: ok.example\r\nContent-Length: +1\r\n\r\na", "HTTP/1.1 400", 400, nil},
		{"bare LF", "GET /lf HTTP/1.1\nHost: ok.example\nX-A: b\nConnection: close\n\n", "HTTP/1.1 200", 0, []string{"GET /lf HTTP/1.1", "Host: ok.example", "X-A: b"}},
		{"bare LF before a second host", "GET / HTTP/1.1\r\nHost: ok.example\r\nX-A: b\nHost: evil.example\r\n" + end, "HTTP/1.1 400", 400, nil},
		{"bare CR in a field", "GET / HTTP/1.1\r\nHost: ok.example\r\nX-A: b\rHost: evil.example\r\n" + end, "HTTP/1.1 400", 400, nil},
		{"NUL in a field", "GET / HTTP/1.1\r\nHost: ok.example\r\nX-A: b\x00c\r\n" + end, "HTTP/1.1 400", 400, nil},
		{"folded field", "GET /fold HTTP/1.1\r\nHost: ok.example\r\nX-A: b\r\n Transfer-Encoding: chunked\r\n" + end, "HTTP/1.1 200", 0, []string{"GET /fold HTTP/1.1", "X-A: b Transfer-Encoding: chunked"}},
		{"bad version", "GET / HTTP/9.9\r\nHost: ok.example\r\n" + end, "HTTP/1.1 505", 400, nil},
		{"no version", "GET /\r\n\r\n", "HTTP/1.1 400", 400, nil},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 400", 400, nil},
		{"encoded line end in the path", "GET /%0d%0aX:%20y HTTP/1.1\r\nHost: ok.example\r\n" + end, "HTTP/1.1 200", 0, []string{"GET /%0d%0aX:%20y HTTP/1.1"}},
		{"bad chunk size", "POST /c HTTP/1.1\r\nHost: ok.example\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "HTTP/1.1 ", -1, []string{"POST /c HTTP/1.1", "Host: ok.example"}},
		{"upgrade to h2c", "GET /u HTTP/1.1\r\nHost: ok.example\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "HTTP/1.1 200", 0, []string{"GET /u HTTP/1.1", "Host: ok.example"}},
		{"half a request", "GET / HTTP/1.1\r\nHost: ok.ex", "", 400, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *Config) { c.HeaderTimeout = 2 * time.Second; c.IdleTimeout = 2 * time.Second })
			rec := r.record("ok.example")
			r.record("evil.example") // would answer too
			r.setAllow("evil.example", false)
			out := r.exchangeRaw("ok.example", 80, false, c.in)
			if !strings.HasPrefix(out, c.status) {
				t.Errorf("answer %.300q, want %q", out, c.status)
			}
			if c.row > 0 {
				r.row("of the refusal", func(e ledger.Entry) bool {
					return e.Status == c.row && e.Decision == ledger.Block && e.Host == "ok.example" && e.Reason != ""
				})
			}
			seen := rec.seen()
			if c.leaves == nil && seen != "" {
				t.Fatalf("the upstream saw %q", seen)
			}
			for _, want := range c.leaves {
				if !strings.Contains(seen, want+"\r\n") {
					t.Errorf("%q is not in %q", want, seen)
				}
			}
			if strings.Contains(strings.ReplaceAll(seen, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(seen, "\r\n", ""), "\r") {
				t.Errorf("a bare line end left: %q", seen)
			}
			if strings.Contains(seen, "Content-Length") && strings.Contains(seen, "Transfer-Encoding: chunked\r\n") {
				t.Errorf("two lengths left: %q", seen)
			}
			// However the bytes are read, only what went to the proxy as a request is a request to the upstream.
			br := bufio.NewReader(strings.NewReader(seen))
			for {
				q, err := http.ReadRequest(br)
				if err != nil {
					break
				}
				io.Copy(io.Discard, q.Body)
				if q.Host != "ok.example" || q.URL.Path == "/smuggled" {
					t.Errorf("the upstream reads a request for %s %s in %q", q.Host, q.URL, seen)
				}
			}
		})
	}
}

func TestForeignServerName(t *testing.T) {
	r := newRig(t, nil)
	rec := r.record("ok.example")
	for _, h2 := range []bool{false, true} {
		c := r.dial("ok.example", 443)
		defer c.Close()
		cfg := &tls.Config{RootCAs: r.guest, ServerName: "evil.example"}
		if h2 {
			cfg.NextProtos = []string{"h2"}
		}
		tc := tls.Client(c, cfg)
		tr := &http.Transport{ForceAttemptHTTP2: h2, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return tc, tc.Handshake() }}
		defer tr.CloseIdleConnections()
		req, _ := http.NewRequest("GET", "https://ok.example/", nil)
		res, body := do(t, &http.Client{Transport: tr}, req)
		if res.StatusCode != 421 || !strings.Contains(body, "evil.example") {
			t.Errorf("%v %s", res.Status, body)
		}
	}
	e := r.row("of the connection", func(e ledger.Entry) bool { return e.Kind == ledger.Connect })
	if e.Host != "ok.example" || e.Status != 421 || e.Decision != ledger.Block || !strings.Contains(e.Reason, "evil.example") {
		t.Errorf("%+v", e)
	}
	// To an address, with the name of an allowed host.
	c := r.dial("192.0.2.9", 443)
	defer c.Close()
	tc := tls.Client(c, &tls.Config{RootCAs: r.guest, ServerName: "ok.example"})
	fmt.Fprintf(tc, "GET / HTTP/1.1\r\nHost: ok.example\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(tc), nil)
	if err != nil || res.StatusCode != 421 {
		t.Errorf("%v %v", res, err)
	}
	// In capitals it is the same name; without one the decided name holds.
	for _, name := range []string{"OK.Example", ""} {
		c := r.dial("ok.example", 443)
		defer c.Close()
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: name}) // checked by hand below
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := tc.ConnectionState().PeerCertificates[0].VerifyHostname("ok.example"); err != nil {
			t.Error(err)
		}
	}
	if rec.seen() != "" {
		t.Errorf("the upstream saw %q", rec.seen())
	}
	for _, e := range r.all() {
		if e.Decision == ledger.Allow {
			t.Errorf("%+v", e)
		}
	}
}

// TestForeignAuthorityOnHTTP2: :authority and Host are told apart there.
func TestForeignAuthorityOnHTTP2(t *testing.T) {
	r := newRig(t, nil)
	rec := r.record("ok.example")
	c := r.client(true)
	req, _ := http.NewRequest("GET", "https://ok.example/", nil)
	req.Host = "evil.example"
	if res, _ := do(t, c, req); res.StatusCode != 421 {
		t.Error(res.Status)
	}
	if rec.seen() != "" {
		t.Errorf("%q", rec.seen())
	}
	r.row("of it", func(e ledger.Entry) bool { return e.Status == 421 && e.Kind == ledger.HTTP })
}

func TestWhatIsNotHTTP(t *testing.T) {
	for _, c := range []struct {
		name, in, reason string
		allowed          bool
	}{
		{"SSH", "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "SSH does not pass", true},
		{"SSH, not allowed", "SSH-2.0-OpenSSH_9.2p1\r\n", "", false},
		{"BitTorrent", "\x13BitTorrent protocol", "BitTorrent", true},
		{"rubbish", "\x01\x02\x03", "unknown protocol", true},
		{"old SSL", "\x80\x2e\x01\x00\x02", "unknown protocol", true},
		{"an endless word", strings.Repeat("A", 200), "unknown protocol", true},
		{"silence", "", "nothing was said", true},
		{"silence, not allowed", "", "", false},
		{"TLS, then rubbish", "\x16\x03\x01\x00\x05hello", "handshake", true},
		{"cut ClientHello", "\x16\x03\x01\x02\x00", "took too long", true},
		{"one letter", "G", "nothing was said", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *Config) {
				c.Silence, c.SilenceRefused, c.HeaderTimeout = time.Second, time.Second, time.Second
			})
			rec := r.record("x.example")
			r.setAllow("x.example", c.allowed)
			if out := r.exchangeRaw("x.example", 80, false, c.in); strings.Contains(out, "HTTP") {
				t.Errorf("answer %q", out)
			}
			want := ledger.Block
			if !c.allowed {
				want = ledger.Ask
			}
			r.row("with the reason", func(e ledger.Entry) bool {
				return e.Kind == ledger.Connect && e.Decision == want && strings.Contains(e.Reason, c.reason) && e.Host == "x.example" && e.Port == 80
			})
			if rec.seen() != "" {
				t.Errorf("the upstream saw %q", rec.seen())
			}
		})
	}
}

func TestConnectionsThatSayNothing(t *testing.T) {
	r := newRig(t, nil)
	r.route("ok.example", "127.0.0.1:1")
	r.dial("ok.example", 443).Close() // as a client does that opens one in advance: no row
	r.dial("192.0.2.55", 22).Close()
	e := r.row("of the probe", func(e ledger.Entry) bool { return e.Host == "192.0.2.55" })
	if e.Port != 22 || e.Decision != ledger.Ask {
		t.Errorf("%+v", e)
	}
	r.srv.Close()
	for _, e := range r.all() {
		if e.Host == "ok.example" {
			t.Errorf("%+v", e)
		}
	}
}

func TestBadProxyHeaders(t *testing.T) {
	r := newRig(t, func(c *Config) { c.HeaderTimeout = time.Second })
	good := proxyHeader(netip.MustParseAddrPort("192.0.2.1:80"), "x")
	local := bytes.Clone(good)
	local[12] = 0x20
	udp := bytes.Clone(good)
	udp[13] = 0x12
	for name, in := range map[string][]byte{
		"http":       []byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
		"version 1":  []byte("PROXY TCP4 127.0.0.1 192.0.2.1 1 80\r\n"),
		"local":      local,
		"udp":        udp,
		"cut":        good[:20],
		"too long":   append(bytes.Clone(good[:14]), 0xff, 0xff),
		"port 0":     proxyHeader(netip.MustParseAddrPort("192.0.2.1:0"), ""),
		"cut TLV":    append(append(bytes.Clone(good[:14]), 0, 14), good[16:30]...),
		"TLV beyond": func() []byte { b := bytes.Clone(good); b[len(b)-2] = 200; return b }(),
	} {
		before := len(r.all())
		c, err := net.Dial("tcp", r.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		c.Write(in)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, errDeadline) {
			t.Errorf("%s: %d %v", name, n, err)
		}
		c.Close()
		if len(r.all()) == before {
			t.Errorf("%s: no row", name)
		}
	}
}

var errDeadline = func() error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	a.SetDeadline(time.Unix(1, 0))
	_, err := a.Read(make([]byte, 1))
	return err
}()

func TestReadHeader(t *testing.T) {
	for _, c := range []struct {
		dst, process, want string
	}{
		{"198.18.1.2:443", "curl", "curl"},
		{"[2001:db8::1]:65535", "", ""},
		{"[::ffff:192.0.2.1]:80", "node\x00rest", "node"},
		{"192.0.2.1:1", " a\x1b[31mb\u202ec\n ", "a[31mbc"},
		{"192.0.2.1:1", strings.Repeat("x", 300), strings.Repeat("x", maxProcess)},
		{"192.0.2.1:1", "\xff\xfeok", "ok"},
	} {
		in := proxyHeader(netip.MustParseAddrPort(c.dst), c.process)
		rest := bytes.NewReader(append(in, "rest"...))
		h, err := readHeader(rest)
		want := netip.MustParseAddrPort(c.dst)
		if err != nil || h.dst != netip.AddrPortFrom(want.Addr().Unmap(), want.Port()) || h.process != c.want || rest.Len() != 4 {
			t.Errorf("%+v: %+v %v, %d bytes left", c, h, err, rest.Len())
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add(proxyHeader(netip.MustParseAddrPort("198.18.1.2:443"), "curl"))
	f.Add(proxyHeader(netip.MustParseAddrPort("[2001:db8::1]:443"), ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		rest := bytes.NewReader(b)
		h, err := readHeader(rest)
		if read := len(b) - rest.Len(); read > 16+maxHeader {
			t.Fatalf("read %d bytes", read)
		}
		if err == nil && (!h.dst.IsValid() || h.dst.Port() == 0 || len(h.process) > maxProcess || strings.ContainsAny(h.process, "\x00\n\r\x1b")) {
			t.Fatalf("%+v", h)
		}
	})
}

func FuzzSniff(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1", "\x16\x03\x01", "SSH-2.0", "PRI * HTTP/2.0", "M-SEARCH * ", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := sniff(b)
		if len(b) >= maxSniff && got == unsure {
			t.Fatalf("still unsure after %d bytes", len(b))
		}
		// A decision is never taken back when more comes.
		for i := range b {
			if p := sniff(b[:i]); p != unsure && p != got {
				t.Fatalf("%v after %d bytes, %v after %d", p, i, got, len(b))
			}
		}
		if got == isOther && describe(b) == "" {
			t.Fatal("no description")
		}
	})
}

func TestCheckAddress(t *testing.T) {
	own := func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("8.8.4.4"), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("2600::1"), Mask: net.CIDRMask(64, 128)}}, nil
	}
	for _, a := range []string{
		"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.1.1",
		"fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fc00::1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255",
		"240.0.0.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:1::1", "2001:db8::1", "100::1", "fec0::1", "168.63.129.16", "8.8.4.4", "2600::1", "::ffff:8.8.4.4",
	} {
		var p *privateError
		if err := checkAddress(netip.MustParseAddr(a), own); !errors.As(err, &p) || p.what == "" {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "172.15.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "198.17.0.1", "198.20.0.1", "2600::2"} {
		if err := checkAddress(netip.MustParseAddr(a), own); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if checkAddress(netip.MustParseAddr("1.1.1.1"), func() ([]net.Addr, error) { return nil, errors.New("no") }) == nil {
		t.Error("passed although the host's own addresses are unknown")
	}
}

func TestUnboundIsNotAsked(t *testing.T) {
	asked := false
	r := newRig(t, func(c *Config) {
		c.Request = func(policy.Request) policy.Verdict { asked = true; return policy.Verdict{Decision: ledger.Allow} }
		c.Connect = func(string, int) policy.Verdict { asked = true; return policy.Verdict{Decision: ledger.Allow} }
	})
	if res, _ := get(t, r.client(false), "http://198.19.1.1/"); res.StatusCode != 403 || asked {
		t.Errorf("%v, asked %v", res.Status, asked)
	}
}
