package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"capsid/proxy/ledger"
)

// recorder is the only upstream that policy names. It reads requests strictly, and notes what reached it.
type recorder struct {
	mu       sync.Mutex
	requests []string // "METHOD host path"
	faults   []string
}

func (r *recorder) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go r.talk(conn)
	}
}

func (r *recorder) talk(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		if _, err := in.Peek(1); err != nil {
			return
		}
		req, err := http.ReadRequest(in)
		if err != nil {
			r.note("", err)
			return
		}
		var body bytes.Buffer
		_, err = body.ReadFrom(req.Body)
		r.note(req.Method+" "+req.Host+" "+req.URL.Path, nil)
		if err == io.ErrUnexpectedEOF {
			return // the proxy broke off a request whose body turned out to be malformed
		}
		if err != nil {
			r.note("", err)
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

func (r *recorder) note(request string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.faults = append(r.faults, err.Error())
	} else {
		r.requests = append(r.requests, request)
	}
}

// witness listens where nobody may come and counts who does.
func witness(t *testing.T, ip string, heard *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			heard.Add(1)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// ownAddresses returns the host's IPv4 addresses that the guest could try.
func ownAddresses(t *testing.T) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// TestRootInTheGuestGetsNowhere: root in the guest tries all it can think of. Nothing reaches anybody whom policy did not name, each attempt that the
// host could see is in the ledger, and the session serves on.
func TestRootInTheGuestGetsNowhere(t *testing.T) {
	h := newHouse(t)
	const allowed = "allowed.test"
	var upstream recorder
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go upstream.serve(l)
	policy := h.write("attack.toml", fmt.Sprintf("[network]\nallow = [%q]\n\n[network.upstream.\"%s:80\"]\naddress = %q\n\n"+
		"[network.upstream.\"%s:443\"]\naddress = %q\nca = %q\n", allowed, allowed, l.Addr(), allowed, h.models.Address, h.models.CAFile))
	var heard atomic.Int64
	var witnesses []string
	for _, ip := range ownAddresses(t) {
		witnesses = append(witnesses, witness(t, ip, &heard))
	}
	st := h.start("attacked", "shell", h.workspace("w"), "--policy", policy)

	script, err := os.Open("testdata/attack.py")
	if err != nil {
		t.Fatal(err)
	}
	defer script.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), append([]string{"run", "attacked", "--root", "--", "python3", "-", allowed}, witnesses...)...)
	cmd.Env, cmd.Stdin, cmd.Stderr = h.env, script, os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("the attack did not run: %v\n%s", err, text)
	}
	got := map[string]string{}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for name, result := range got {
		t.Logf("%-30s %s", name, result)
	}

	fails := func(name string) { // no answer of anybody
		if r := got[name]; !strings.HasPrefix(r, "error: ") && r != "" {
			t.Errorf("%s: %s", name, r)
		}
	}
	refused := func(name string, codes ...string) {
		t.Helper()
		for _, code := range codes {
			if strings.HasPrefix(got[name], "HTTP/1.1 "+code) {
				return
			}
		}
		fails(name)
	}
	for _, addr := range append([]string{"93.184.215.14", "10.0.0.1", "169.254.169.254"}, witnesses...) {
		refused("direct "+addr, "403")
	}
	for _, name := range []string{"udp 443", "udp 123", "raw icmp", "foreign sni", "not http", "direct after flush"} {
		refused(name, "400", "421")
	}
	refused("unlisted", "403")
	refused("foreign host", "421")
	refused("foreign host tls", "421")
	refused("absolute form", "421", "400")
	refused("absolute form, own host", "421", "400")
	refused("connect", "405", "403", "421", "400")
	if r := got["dns tunnel"]; !strings.HasSuffix(r, " 0 answers") {
		t.Errorf("dns tunnel: %s", r)
	}
	if r := got["link port"]; strings.Contains(r, "opened") || r == "" {
		t.Errorf("link port: %s", r)
	}
	for _, name := range []string{"allowed", "allowed tls"} {
		if r := got[name]; !strings.HasPrefix(r, "HTTP/1.1 200") && !strings.HasPrefix(r, "HTTP/1.1 502") && !strings.HasPrefix(r, "HTTP/1.1 404") {
			t.Errorf("%s: %s", name, r)
		}
	}
	if r := got["allowed"]; !strings.HasPrefix(r, "HTTP/1.1 200") {
		t.Errorf("allowed: %s", r)
	}
	if r := got["idle"]; !strings.HasSuffix(r, "HTTP/1.1 200 OK") {
		t.Errorf("after a flood of idle connections: %s", r)
	}
	if r := got["flush"]; r != "flushed" {
		t.Errorf("flush: %s", r)
	}

	// The host saw nothing but what was allowed.
	if n := heard.Load(); n != 0 {
		t.Errorf("%d connections reached the host's own addresses", n)
	}
	upstream.mu.Lock()
	defer upstream.mu.Unlock()
	for _, f := range upstream.faults {
		t.Errorf("bytes that are no request reached the upstream: %s", f)
	}
	rows := h.rows(st.ID)
	for _, r := range upstream.requests {
		fields := strings.Fields(r)
		if fields[1] != allowed {
			t.Errorf("a request for somebody else reached the upstream: %s", r)
		}
		h.row(rows, "what reached the upstream: "+r, func(e ledger.Entry) bool {
			return e.Decision == ledger.Allow && e.Method == fields[0] && strings.HasSuffix(e.URL, fields[2])
		})
	}
	// Each attempt is a row.
	blocked := func(what string, is func(ledger.Entry) bool) {
		t.Helper()
		h.row(rows, what, func(e ledger.Entry) bool { return e.Decision != ledger.Allow && is(e) })
	}
	for _, addr := range append([]string{"93.184.215.14:80", "10.0.0.1:80", "169.254.169.254:80"}, witnesses...) {
		blocked("the connection to "+addr, func(e ledger.Entry) bool { return fmt.Sprintf("%s:%d", e.Host, e.Port) == addr })
	}
	for _, name := range []string{"unlisted.test", "foreign-sni.test", "foreign-host.test", "absolute.test", "connect.test", "smuggled.test"} {
		blocked(name, func(e ledger.Entry) bool {
			return e.Host == name || strings.Contains(e.URL, name) || strings.Contains(e.Reason, name)
		})
	}
	blocked("the DNS tunnel", func(e ledger.Entry) bool { return e.Kind == ledger.DNS && strings.Contains(e.Host, "tunnel.test") })
	blocked("what is not HTTP", func(e ledger.Entry) bool { return e.Kind == ledger.Connect && e.Host == allowed })
	if t.Failed() {
		t.Logf("rows:\n%s", describe(rows))
	}

	// The session serves on, with its workspace.
	if out := h.must("run", "attacked", "--", "sh", "-c", "echo here > w.txt && cat w.txt"); strings.TrimSpace(out) != "here" {
		t.Errorf("after all that, run says %q", out)
	}
}
