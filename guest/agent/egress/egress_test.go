//go:build linux

package egress

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capsid/guest/link"

	"github.com/pires/go-proxyproto"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const inside = "CAPSID_TEST_INSIDE"

// isolated runs the test that calls it again, in a process with a network of its own. It returns false in the outer one.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=4m")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		t.Skipf("this host allows no user namespaces: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// hostEnd starts the relays in this network, and returns the host's end of their link.
func hostEnd(t *testing.T) link.Link {
	t.Helper()
	// The kernel of a test need not have dummy interfaces; any that throws packets away does.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Interface
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
		if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
			t.Fatalf("no interface to test with: %v", err)
		}
	}
	a, b := net.Pipe()
	host, guest := link.NewMux(a, link.Host), link.NewMux(b, link.Guest)
	// Streams are refused, and not kept waiting, from the first Listen on.
	listen(t, host, link.Control, func(net.Conn) {})
	e, err := Start(Config{Link: guest, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = host.Close()
		_ = guest.Close()
		_ = e.Close()
	})
	return host
}

func listen(t *testing.T, l link.Link, port link.Port, serve func(net.Conn)) {
	t.Helper()
	ln, err := l.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
}

// parrot answers with what the PROXY header said, then with all bytes that come, and then ends.
func parrot(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	h, err := proxyproto.Read(r)
	if err != nil {
		return
	}
	name := ""
	tlvs, _ := h.TLVs()
	for _, v := range tlvs {
		if v.Type == typeProcess {
			name = string(v.Value)
		}
	}
	fmt.Fprintf(c, "%v %q\n", h.DestinationAddr, name)
	_, _ = io.Copy(c, r)
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c.(*net.TCPConn)
}

func TestRelay(t *testing.T) {
	if !isolated(t) {
		return
	}
	host := hostEnd(t)
	listen(t, host, link.Egress, parrot)
	comm := strings.TrimSpace(readAll(t, "/proc/self/comm"))
	for _, addr := range []string{"93.184.216.34:443", "198.18.3.4:80", "10.0.0.1:22", "[2001:db8::7]:8443", "198.18.0.1:1"} {
		c := dial(t, addr)
		body := strings.Repeat("x", 300_000)
		go func() {
			_, _ = io.WriteString(c, body)
			_ = c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		if want := fmt.Sprintf("%s %q\n", addr, comm) + body; string(got) != want {
			t.Errorf("%s: got %.60q (%d bytes), want %.60q (%d bytes)", addr, got, len(got), want, len(want))
		}
	}
	// The machine's traffic with itself is not the relay's, by whichever of its addresses.
	own, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	go func() {
		for {
			c, err := own.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "mine")
			_ = c.Close()
		}
	}()
	port := own.Addr().(*net.TCPAddr).Port
	for _, ip := range []string{"127.0.0.1", "198.18.0.2"} {
		got, err := io.ReadAll(dial(t, fmt.Sprintf("%s:%d", ip, port)))
		if err != nil || string(got) != "mine" {
			t.Errorf("%s: got %q, %v", ip, got, err)
		}
	}
}

func TestRelayResets(t *testing.T) {
	if !isolated(t) {
		return
	}
	host := hostEnd(t)
	// Nobody listens: the host refuses.
	c, err := net.DialTimeout("tcp", "203.0.113.9:80", 20*time.Second)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	// The host takes the stream and breaks it before its end.
	listen(t, host, link.Egress, func(c net.Conn) {
		_, _ = proxyproto.Read(bufio.NewReader(c))
		_ = c.Close()
	})
	broken := dial(t, "203.0.113.9:80")
	if b, err := io.ReadAll(broken); len(b) != 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("closed by the host: got %q, %v", b, err)
	}
}

// A connection whose stream was cut, as all are when the machine is restored, is reset: a program is not to take it for ended.
func TestRelayResetsWhatIsCut(t *testing.T) {
	if !isolated(t) {
		return
	}
	host := hostEnd(t)
	begun := make(chan struct{})
	listen(t, host, link.Egress, func(c net.Conn) {
		_, _ = proxyproto.Read(bufio.NewReader(c))
		_, _ = io.WriteString(c, "half an ans")
		close(begun)
	})
	c := dial(t, "203.0.113.9:80")
	if _, err := io.ReadFull(c, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	<-begun
	_ = host.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestIdleConnections(t *testing.T) {
	if !isolated(t) {
		return
	}
	n := 3000
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	// Both ends of each connection are this process's.
	n = min(n, int(lim.Cur)/2-200)
	host := hostEnd(t)
	begun, ended := make(chan struct{}), make(chan struct{})
	listen(t, host, link.Egress, func(c net.Conn) {
		begun <- struct{}{}
		parrot(c)
		ended <- struct{}{}
	})
	conns := make([]*net.TCPConn, n)
	for i := range conns {
		conns[i] = dial(t, "198.18.0.1:443")
	}
	expect := func(signals <-chan struct{}) {
		t.Helper()
		timer := time.NewTimer(time.Minute)
		defer timer.Stop()
		for i := range n {
			select {
			case <-signals:
			case <-timer.C:
				t.Fatalf("the host saw %d of %d", i, n)
			}
		}
	}
	expect(begun)
	// Each is alive while all others rest.
	for i := 0; i < n; i += 97 {
		c := conns[i]
		if _, err := io.WriteString(c, "ping\n"); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		r := bufio.NewReader(c)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if line, err := r.ReadString('\n'); line != "ping\n" {
			t.Fatalf("connection %d: got %q, %v", i, line, err)
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	expect(ended)
}

func TestOtherTraffic(t *testing.T) {
	if !isolated(t) {
		return
	}
	hostEnd(t)
	for _, addr := range []string{"8.8.8.8:123", "[2001:db8::1]:443"} {
		c, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		if err == nil {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("UDP to %s: got %v, want it refused at once", addr, err)
		}
	}
}

// resolve answers questions for A with 198.18.0.1, "big" with many, and "silent" never.
func resolve(c net.Conn) {
	defer c.Close()
	for {
		msg, err := readMessage(c)
		if err != nil {
			return
		}
		var p dnsmessage.Parser
		h, err := p.Start(msg)
		if err != nil {
			return
		}
		q, err := p.Question()
		if err != nil {
			return
		}
		if strings.HasPrefix(q.Name.String(), "silent") {
			continue
		}
		n := 1
		if strings.HasPrefix(q.Name.String(), "big") {
			n = 100
		}
		out := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true}, Questions: []dnsmessage.Question{q}}
		for i := range n {
			out.Answers = append(out.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{198, 18, 0, byte(i + 1)}},
			})
		}
		b, err := out.Pack()
		if err != nil {
			return
		}
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	}
}

func TestDNS(t *testing.T) {
	if !isolated(t) {
		return
	}
	host := hostEnd(t)
	listen(t, host, link.DNS, resolve)
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		// Whatever resolver a program asks, it is the host that answers.
		return d.DialContext(ctx, network, "8.8.8.8:53")
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() {
			got, err := r.LookupIP(ctx, "ip4", "example.com.")
			if err != nil || len(got) != 1 || got[0].String() != "198.18.0.1" {
				t.Errorf("example.com: got %v, %v", got, err)
			}
		})
	}
	asking.Wait()
	// By UDP first, cut, and then by TCP.
	got, err := r.LookupIP(ctx, "ip4", "big.example.com.")
	if err != nil || len(got) != 100 {
		t.Errorf("big: got %d addresses, %v", len(got), err)
	}
}

func TestDNSWithoutHost(t *testing.T) {
	if !isolated(t) {
		return
	}
	hostEnd(t)
	c, err := net.Dial("udp", "9.9.9.9:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q := question4(t, "example.com.", 0)
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 512)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	var p dnsmessage.Parser
	h, err := p.Start(b[:n])
	if err != nil || h.RCode != dnsmessage.RCodeServerFailure || h.ID != 77 {
		t.Errorf("got %+v, %v", h, err)
	}
}

func question4(t testing.TB, name string, edns uint16) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 77, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	if edns > 0 {
		m.Additionals = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeOPT, Class: dnsmessage.Class(edns)}, Body: &dnsmessage.OPTResource{},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
