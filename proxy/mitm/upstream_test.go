package mitm

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"capsid/proxy/ca"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// resolver answers every A question with addr, or with "no such name" when it is not valid; names that were asked are sent to asked.
func resolver(addr netip.Addr, asked chan<- string) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe() // not a PacketConn, so DNS over TCP is spoken on it
		go func() {
			defer server.Close()
			for {
				var n [2]byte
				if _, err := io.ReadFull(server, n[:]); err != nil {
					return
				}
				buf := make([]byte, binary.BigEndian.Uint16(n[:]))
				if _, err := io.ReadFull(server, buf); err != nil {
					return
				}
				var m dnsmessage.Message
				if err := m.Unpack(buf); err != nil {
					return
				}
				q := m.Questions[0]
				if q.Type == dnsmessage.TypeA {
					asked <- q.Name.String()
				}
				m.Response, m.Additionals = true, nil
				switch {
				case !addr.IsValid():
					m.RCode = dnsmessage.RCodeNameError
				case q.Type == dnsmessage.TypeA:
					m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: addr.As4()}}}
				}
				out, err := m.AppendPack(make([]byte, 2))
				if err != nil {
					return
				}
				binary.BigEndian.PutUint16(out, uint16(len(out)-2))
				if _, err := server.Write(out); err != nil {
					return
				}
			}
		}()
		return client, nil
	}}
}

func TestNamesThatLeadHome(t *testing.T) {
	asked := make(chan string, 10)
	dialed := make(chan struct{}, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dialed <- struct{}{}
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r := newRig(t, func(c *Config) { c.Resolver = resolver(netip.MustParseAddr("127.0.0.1"), asked) })
	url := "http://rebind.example:" + port + "/"
	if res, _ := get(t, r.client(false), url); res.StatusCode != 403 {
		t.Error(res.Status)
	}
	select {
	case n := <-asked:
		t.Fatalf("%s was resolved before a rule allowed it", n)
	default:
	}
	r.setAllow("rebind.example", true)
	res, body := get(t, r.client(false), url)
	if res.StatusCode != 403 || res.Header.Get("Capsid-Decision") != "block" || !strings.Contains(body, "127.0.0.1 is a loopback address") {
		t.Errorf("%v %s", res.Status, body)
	}
	select {
	case <-dialed:
		t.Fatal("loopback was dialed")
	default:
	}
	if n := <-asked; n != "rebind.example." {
		t.Errorf("asked for %q", n)
	}
	e := r.row("of the refusal", func(e ledger.Entry) bool { return e.Done && e.Rule == "private addresses" })
	if e.Decision != ledger.Block || e.Status != 403 {
		t.Errorf("%+v", e)
	}

	r.mu.Lock()
	r.private = true
	r.mu.Unlock()
	if res, body := get(t, r.client(false), url); res.StatusCode != 200 || body != "secret" {
		t.Errorf("with a rule's leave: %v %q", res.Status, body)
	}
	<-dialed

	// The leave ends with the rule.
	r.mu.Lock()
	r.private = false
	r.mu.Unlock()
	if res, _ := get(t, r.client(false), url); res.StatusCode != 403 {
		t.Error(res.Status)
	}
}

func TestUpstreamFailures(t *testing.T) {
	asked := make(chan string, 10)
	r := newRig(t, func(c *Config) { c.Resolver = resolver(netip.Addr{}, asked) })
	r.setAllow("gone.example", true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	r.route("refused.example", closed)

	slam, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer slam.Close()
	go func() {
		for {
			c, err := slam.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1000))
			c.Close()
		}
	}()
	r.route("slam.example", slam.Addr().String())

	r.upstream("foreign.example", true, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	other, err := ca.Open(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(other.Certificate())
	r.override["foreign.example"] = policy.Upstream{Address: r.override["foreign.example"].Address, RootCAs: pool}

	named := r.upstream("named.example", true, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r.route("misnamed.example", named.Listener.Addr().String())

	r.upstream("untrusted.example", true, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r.override["untrusted.example"] = policy.Upstream{Address: r.override["untrusted.example"].Address} // the host's trust store

	for _, c := range []struct{ url, reason string }{
		{"https://gone.example/", "knows no address of gone.example"},
		{"http://refused.example/", "could not be reached"},
		{"http://slam.example/", "closed the connection without a response"},
		{"https://foreign.example/", "could not be verified"},
		{"https://misnamed.example/", "could not be verified"},
		{"https://untrusted.example/", "could not be verified"},
	} {
		res, body := get(t, r.client(true), c.url)
		if strings.HasPrefix(c.url, "http:") {
			res, body = get(t, r.client(false), c.url)
		}
		if res.StatusCode != 502 || !strings.Contains(body, c.reason) || res.Header.Get("Capsid-Decision") != "" || strings.Contains(body, "Nothing of it has left") {
			t.Errorf("%s: %v %s", c.url, res.Status, body)
		}
		host := strings.Trim(strings.SplitN(c.url, ":", 2)[1], "/")
		r.row("of "+c.url, func(e ledger.Entry) bool {
			return e.Done && e.Host == host && e.Status == 502 && e.Decision == ledger.Allow && strings.Contains(e.Reason, c.reason)
		})
	}
}

// TestOverrideOfAnAddress: an upstream may have an address for its name.
func TestOverrideOfAnAddress(t *testing.T) {
	r := newRig(t, nil)
	r.upstream("192.0.2.44", true, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Host) }))
	if _, body := get(t, r.client(true), "https://192.0.2.44/"); body != "192.0.2.44" {
		t.Errorf("%q", body)
	}
}

func TestGuestGoesAway(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		came, ended := make(chan struct{}), make(chan struct{})
		r.upstream("slow.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			close(came)
			<-q.Context().Done() // the proxy must tell the upstream
			close(ended)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://slow.example/", nil)
		failed := make(chan error, 1)
		go func() {
			_, err := r.client(guest).Do(req)
			failed <- err
		}()
		<-came
		r.row("under way", func(e ledger.Entry) bool { return !e.Done && e.Host == "slow.example" && e.Method == "GET" })
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("the upstream was not told")
		}
		r.row("of the end", func(e ledger.Entry) bool { return e.Done && strings.Contains(e.Reason, "ended the request") })
	})
}

func TestResponseThatBreaksOff(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		r.upstream("cut.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}))
		res, err := r.client(guest).Get("https://cut.example/")
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if err == nil {
			t.Error("a cut response looks whole")
		}
		r.row("of it", done(200))
	})
}

func TestRoutesAreBounded(t *testing.T) {
	var rs routes
	made := 0
	build := func(route) *http.Transport { made++; return &http.Transport{} }
	a := rs.get(route{host: "a"}, build)
	for i := range 2 * maxRoutes {
		rs.get(route{host: "x", port: i}, build)
		if rs.get(route{host: "a"}, build) != a {
			t.Fatal("the route in use was dropped")
		}
	}
	if rs.order.Len() != maxRoutes || len(rs.byKey) != maxRoutes || made != 2*maxRoutes+1 {
		t.Errorf("%d routes, %d made", rs.order.Len(), made)
	}
}
