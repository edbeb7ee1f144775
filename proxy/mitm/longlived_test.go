package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"capsid/proxy/ledger"
)

func echoSocket(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c, err := websocket.Accept(w, q, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for {
			typ, b, err := c.Read(q.Context())
			if err != nil {
				return
			}
			if err := c.Write(q.Context(), typ, b); err != nil {
				return
			}
		}
	})
}

func TestWebSocket(t *testing.T) {
	r := newRig(t, nil)
	r.upstream("ws.example", true, echoSocket(t)) // which speaks HTTP/2 too, yet must be asked in HTTP/1.1
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	opts := &websocket.DialOptions{HTTPClient: r.client(false), Subprotocols: []string{"chat"}}
	opts.HTTPClient.Timeout = 0
	c, res, err := websocket.Dial(ctx, "wss://ws.example/socket", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != "chat" || res.StatusCode != 101 {
		t.Errorf("%q %v", c.Subprotocol(), res.Status)
	}
	c.SetReadLimit(1 << 20)
	for _, n := range []int{1, 1000, 300000} {
		want := strings.Repeat("x", n)
		if err := c.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != want {
			t.Fatalf("%d: %v", n, err)
		}
	}
	c.Close(websocket.StatusNormalClosure, "")
	e := r.row("of the socket", done(101))
	if e.Sent < 301001 || e.Received < 301001 || e.URL != "https://ws.example/socket" {
		t.Errorf("%+v", e)
	}

	// Policy applies to the upgrade.
	for _, url := range []string{"wss://other.example/", "wss://ws.example/forbidden"} {
		if _, res, err = websocket.Dial(ctx, url, opts); err == nil || res == nil || res.StatusCode != 403 {
			t.Errorf("%s: %v %v", url, res, err)
		}
	}

	// And to what is open, when it changes.
	c, _, err = websocket.Dial(ctx, "wss://ws.example/again", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	r.srv.Recheck() // nothing changed: it stays
	if err := c.Write(ctx, websocket.MessageText, []byte("still")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(ctx); err != nil {
		t.Fatal(err)
	}
	r.setAllow("ws.example", false)
	r.srv.Recheck()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("after the change: %v", err)
	}
	r.row("of the end", func(e ledger.Entry) bool { return e.Done && strings.Contains(e.Reason, "policy changed") })
}

func TestPolicyIsAskedForEachRequest(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t, nil)
		hold := make(chan struct{})
		r.upstream("x.example", h2, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/stream" {
				w.(http.Flusher).Flush()
				select {
				case <-hold:
				case <-q.Context().Done():
				}
			}
		}))
		c := r.client(h2)
		for _, ok := range []bool{true, false, true} { // on one connection
			r.setAllow("x.example", ok)
			r.srv.Recheck()
			if res, _ := get(t, c, "https://x.example/"); (res.StatusCode == 200) != ok {
				t.Errorf("allowed %v: %v", ok, res.Status)
			}
		}
		res, err := c.Get("https://x.example/stream")
		if err != nil {
			t.Fatal(err)
		}
		r.setAllow("x.example", false)
		r.srv.Recheck()
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("a stream went on")
		}
		res.Body.Close()
		close(hold)
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxRequests, c.MaxConns = 2, 4 })
	came, hold := make(chan struct{}), make(chan struct{})
	r.upstream("x.example", true, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		came <- struct{}{}
		<-hold
	}))
	c := r.client(true)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { get(t, c, "https://x.example/") })
	}
	<-came
	<-came
	if res, body := get(t, c, "https://x.example/"); res.StatusCode != 503 || !strings.Contains(body, "too many requests") {
		t.Errorf("%v %s", res.Status, body)
	}
	close(hold)
	wg.Wait()
	r.row("of it", func(e ledger.Entry) bool { return e.Status == 503 })

	for range 10 {
		conn := r.dial("x.example", 443)
		defer conn.Close()
	}
	r.row("of too many connections", func(e ledger.Entry) bool { return e.Rule == "connection limit" })
}

// oddTimeouts reports time-outs as yamux does: not Temporary, and not os.ErrDeadlineExceeded.
type oddTimeouts struct{ net.Conn }

type oddTimeout struct{}

func (oddTimeout) Error() string   { return "i/o deadline reached" }
func (oddTimeout) Timeout() bool   { return true }
func (oddTimeout) Temporary() bool { return false }

func (c oddTimeouts) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		err = oddTimeout{}
	}
	return n, err
}

type oddListener struct{ net.Listener }

func (l oddListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return oddTimeouts{c}, nil
}

func TestTimeoutsOfOtherTransports(t *testing.T) {
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.srv.Serve(oddListener{l}) }()
	r.listener = l
	r.upstream("x.example", false, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { io.Copy(w, q.Body) }))
	c := r.client(false)
	conns := 0
	inner := c.Transport.(*http.Transport).DialContext
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, n, a string) (net.Conn, error) {
		conns++
		return inner(ctx, n, a)
	}
	for range 20 {
		if res, _ := get(t, c, "https://x.example/"); res.StatusCode != 200 {
			t.Error(res.Status)
		}
	}
	if conns != 1 {
		t.Errorf("%d connections for requests one after another", conns)
	}
	r.srv.Close()
	<-served
}

func TestCloseAtAnyTime(t *testing.T) {
	newRig(t, func(*Config) {}).srv.Close()
	s := New(Config{}) // nothing was ever served
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener stayed open")
	}

	r := newRig(t, nil)
	came := make(chan struct{}, 3)
	r.upstream("x.example", true, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.(http.Flusher).Flush()
		came <- struct{}{}
		<-q.Context().Done()
	}))
	r.upstream("ws.example", false, echoSocket(t))
	var open []io.Closer
	for _, h2 := range []bool{false, true} {
		res, err := r.client(h2).Get("https://x.example/")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res.Body)
		<-came
	}
	ws, _, err := websocket.Dial(t.Context(), "wss://ws.example/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: r.client(false).Transport}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	open = append(open, r.dial("x.example", 443), r.dial("y.example", 22))
	ended := make(chan struct{})
	go func() {
		r.srv.Close()
		r.srv.Close()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Fatalf("Close hangs\n%s", buf[:runtime.Stack(buf, true)])
	}
	for _, c := range open {
		c.Close()
	}
	for _, e := range r.all() {
		if !e.Done {
			t.Errorf("left under way: %+v", e)
		}
	}
}

// heap samples how much memory is in use, after a collection, while bytes flow.
type heap struct {
	base, peak uint64
}

func (h *heap) sample() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if h.base == 0 {
		h.base = m.HeapInuse
	}
	h.peak = max(h.peak, m.HeapInuse)
}

// source yields n bytes and samples the heap on the way.
type source struct {
	n, next int64
	h       *heap
}

func (s *source) Read(p []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.n)]
	s.n -= int64(len(p))
	if s.next -= int64(len(p)); s.next <= 0 {
		s.next = 128 << 20
		s.h.sample()
	}
	return len(p), nil
}

func TestGiantBodiesInConstantMemory(t *testing.T) {
	for _, c := range []struct {
		name      string
		guest, up bool
		upload    bool
		size      int64
	}{
		{"download, HTTP/1.1", false, false, false, 1 << 30},
		{"upload, HTTP/2", true, true, true, 1 << 28},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := c.size
			if testing.Short() {
				size = 1 << 26
			}
			r := newRig(t, nil)
			var h heap
			r.upstream("big.example", c.up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if c.upload {
					n, err := io.Copy(io.Discard, q.Body)
					fmt.Fprintf(w, "%d %v", n, err)
					return
				}
				w.Header().Set("Content-Length", fmt.Sprint(size))
				io.CopyBuffer(struct{ io.Writer }{w}, &source{n: size, h: &h}, make([]byte, 64<<10))
			}))
			client := r.client(c.guest)
			if c.upload {
				req, _ := http.NewRequest("PUT", "https://big.example/", &source{n: size, h: &h})
				if _, body := do(t, client, req); body != fmt.Sprintf("%d <nil>", size) {
					t.Errorf("%q", body)
				}
			} else {
				res, err := client.Get("https://big.example/")
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
					t.Errorf("%d %v", n, err)
				}
				res.Body.Close()
			}
			e := r.row("of it", done(200))
			if c.upload && e.Sent != size || !c.upload && e.Received != size {
				t.Errorf("%+v", e)
			}
			if grown := int64(h.peak) - int64(h.base); grown > 32<<20 {
				t.Errorf("memory in use grew by %d MiB", grown>>20)
			}
		})
	}
}

// pipeListener hands out the far ends of pipes in memory, so that a test is not bound by file descriptors.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return queueAddr{} }

// TestTenThousandIdleConnections: silent ones, and kept-alive ones after a request.
func TestTenThousandIdleConnections(t *testing.T) {
	const count = 10000
	r := newRig(t, func(c *Config) { c.Silence, c.SilenceRefused, c.IdleTimeout = time.Hour, time.Hour, time.Hour })
	r.upstream("x.example", false, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	addr, err := r.table.Bind("idle.example")
	if err != nil {
		t.Fatal(err)
	}
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- r.srv.Serve(l) }()
	var h heap
	h.sample()
	conns := make([]net.Conn, 0, count)
	for i := range count {
		client, server := net.Pipe()
		conns = append(conns, client)
		l.conns <- server
		port := uint16(80)
		if i%10 == 9 {
			port = 443
		}
		client.SetDeadline(time.Now().Add(3 * patience))
		if _, err := client.Write(proxyHeader(netip.AddrPortFrom(addr, port), "")); err != nil {
			t.Fatal(err)
		}
		switch i % 10 {
		case 8: // a request, then nothing
			fmt.Fprintf(client, "GET / HTTP/1.1\r\nHost: idle.example\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil || res.StatusCode != 403 {
				t.Fatalf("%v %v", res, err)
			}
			io.Copy(io.Discard, res.Body)
		case 9: // the same in TLS
			c := tls.Client(client, &tls.Config{RootCAs: r.guest, ServerName: "idle.example", SessionTicketsDisabled: true})
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: idle.example\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || res.StatusCode != 403 {
				t.Fatalf("%v %v", res, err)
			}
			io.Copy(io.Discard, res.Body)
		}
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	h.sample()
	t.Logf("%d connections: %d KiB each, both ends", count, (int64(h.peak)-int64(h.base)+int64(m.StackInuse))/count/1024)
	if each := (int64(h.peak) - int64(h.base)) / count; each > 48<<10 {
		t.Errorf("%d bytes of heap for a connection", each)
	}
	// The others are served all the same.
	if res, _ := get(t, r.client(true), "https://x.example/"); res.StatusCode != 200 {
		t.Error(res.Status)
	}
	for _, c := range conns {
		c.Close()
	}
	r.srv.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	r.srv.mu.Lock()
	defer r.srv.mu.Unlock()
	if n := len(r.srv.conns); n != 0 {
		t.Errorf("%d connections left", n)
	}
}
