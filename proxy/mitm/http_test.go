package mitm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"capsid/proxy/ledger"
)

func TestRequestsAreCarried(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		r.upstream("api.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			body, _ := io.ReadAll(q.Body)
			w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s %s", q.Method, q.Host, q.RequestURI, body))
			w.Header().Set("X-Proto", q.Proto)
			w.Header()["X-Multi"] = []string{"a", "b"}
			w.Header().Set("Alt-Svc", `h3=":443"`)
			w.Header().Set("Proxy-Authenticate", "Basic")
			for k := range q.Header {
				w.Header().Add("X-Field", k)
			}
			w.WriteHeader(418)
			io.WriteString(w, "short and stout")
		}))
		c := r.client(guest)
		req, _ := http.NewRequest("PUT", "https://api.example/a%2Fb/c?x=1;y=2&q=%20&token=SECRET", strings.NewReader("hello"))
		req.Header.Set("X-Own", "1")
		req.Header.Set("X-Forwarded-For", "9.9.9.9")
		req.Header.Set("Proxy-Authorization", "Basic xyz")
		if !guest {
			req.Header.Set("Connection", "X-Hop, keep-alive")
			req.Header.Set("X-Hop", "gone")
		}
		res, body := do(t, c, req)
		if res.StatusCode != 418 || body != "short and stout" || res.ProtoMajor != 1+b2i(guest) {
			t.Errorf("%s %v %q", res.Proto, res.Status, body)
		}
		if got := res.Header.Get("X-Seen"); got != "PUT api.example /a%2Fb/c?x=1;y=2&q=%20&token=SECRET hello" {
			t.Errorf("upstream saw %q", got)
		}
		if got := res.Header.Get("X-Proto"); got != map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[guest && up] {
			t.Errorf("upstream was spoken to in %s", got)
		}
		if !slices.Equal(res.Header["X-Multi"], []string{"a", "b"}) {
			t.Errorf("multiple fields: %v", res.Header["X-Multi"])
		}
		fields := res.Header["X-Field"]
		for _, k := range []string{"X-Hop", "Proxy-Authorization", "Via", "X-Forwarded-Host", "X-Forwarded-Proto", "Proxy-Connection"} {
			if slices.Contains(fields, k) {
				t.Errorf("%s was passed on", k)
			}
		}
		if !slices.Contains(fields, "X-Own") || !slices.Contains(fields, "X-Forwarded-For") {
			t.Errorf("the guest's own fields were lost: %v", fields)
		}
		for _, k := range []string{"Alt-Svc", "Proxy-Authenticate"} {
			if res.Header.Get(k) != "" {
				t.Errorf("%s came back", k)
			}
		}
		e := r.row("of the request", done(418))
		want := ledger.Entry{ID: e.ID, Time: e.Time, Session: "5e551011", Kind: ledger.HTTP, Process: "curl", Method: "PUT",
			URL: "https://api.example/a%2Fb/c?x=1;y=2&q=%20&token=…", Host: "api.example", Port: 443, Status: 418, Sent: 5, Received: 15,
			Duration: e.Duration, Done: true, Decision: ledger.Allow, Rule: "api.example", Source: "user.toml:3"}
		if e != want || e.Duration <= 0 {
			t.Errorf("row\n%+v, want\n%+v", e, want)
		}
	})
}

func TestBlockedHostsAreToldWhy(t *testing.T) {
	r := newRig(t, nil)
	for _, h2 := range []bool{false, true} {
		c := r.client(h2)
		res, body := get(t, c, "https://nope.example/secret?q=1")
		if res.StatusCode != 403 || res.Header.Get("Capsid-Decision") != "ask" || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%v %v", res.Status, res.Header)
		}
		for _, want := range []string{"GET https://nope.example/secret?q=1", "default (built in)", "capsid allow nope.example --session 5e551011", "Blocked tab"} {
			if !strings.Contains(body, want) {
				t.Errorf("%q is not in\n%s", want, body)
			}
		}
		_, body = get(t, c, "https://nope.example/", "Accept", "text/event-stream, application/json")
		var j struct {
			Error  struct{ Type, Message string }
			Capsid struct{ Decision, Host, Allow, Rule string }
		}
		if err := json.Unmarshal([]byte(body), &j); err != nil {
			t.Fatal(err)
		}
		if j.Error.Type != "capsid_blocked" || !strings.Contains(j.Error.Message, "capsid allow nope.example") || j.Capsid.Host != "nope.example" || j.Capsid.Decision != "ask" {
			t.Errorf("%+v", j)
		}
	}
	res, body := get(t, r.client(false), "http://nope.example:8080/")
	if res.StatusCode != 403 || !strings.Contains(body, "capsid allow nope.example:8080 ") {
		t.Errorf("%v %s", res.Status, body)
	}
	r.upstream("mixed.example", false, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	res, body = get(t, r.client(false), "https://mixed.example/forbidden")
	if res.StatusCode != 403 || strings.Contains(body, "capsid allow") || !strings.Contains(body, "user.toml:7") || res.Header.Get("Capsid-Decision") != "block" {
		t.Errorf("%v %s", res.Status, body)
	}
	head, _ := http.NewRequest("HEAD", "https://nope.example/", nil)
	if res, body := do(t, r.client(false), head); res.StatusCode != 403 || body != "" {
		t.Errorf("HEAD: %v %q", res.Status, body)
	}
	post, _ := http.NewRequest("POST", "https://nope.example/", io.LimitReader(zeros{}, 1<<20))
	if res, _ := do(t, r.client(true), post); res.StatusCode != 403 {
		t.Errorf("POST: %v", res.Status)
	}
	rows := r.all()
	if len(rows) != 8 {
		t.Errorf("%d rows", len(rows))
	}
	for _, e := range rows {
		if e.Status != 403 || e.Decision == ledger.Allow || e.Kind != ledger.HTTP || e.Process != "curl" || e.Rule == "" {
			t.Errorf("%+v", e)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAddressesAreBlockedReadably(t *testing.T) {
	r := newRig(t, nil)
	for _, url := range []string{"https://192.0.2.7/", "http://[2001:db8::5]/", "https://[2001:db8::5]/x", "http://198.18.77.77/"} {
		res, body := get(t, r.client(false), url)
		if res.StatusCode != 403 {
			t.Errorf("%s: %v %s", url, res.Status, body)
		}
		if strings.Contains(url, "198.18") && !strings.Contains(body, "no name of this session") {
			t.Errorf("%s", body)
		}
	}
}

func TestStreamsAreNotBuffered(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		next := make(chan struct{})
		r.upstream("sse.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", q.URL.Query().Get("type"))
			if q.URL.Query().Has("length") {
				w.Header().Set("Content-Length", "27")
			}
			f := w.(http.Flusher)
			f.Flush() // the header alone
			for i := range 3 {
				select {
				case <-next:
				case <-q.Context().Done():
					return
				}
				fmt.Fprintf(w, "data: %d\n\n", i)
				f.Flush()
			}
		}))
		for _, typ := range []string{"text/event-stream", "application/octet-stream", "application/octet-stream&length=1"} {
			res, err := r.client(guest).Get("https://sse.example/?type=" + typ)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(res.Body)
			for i := range 3 {
				next <- struct{}{} // event i is sent only now, so a buffer anywhere would stop the test
				if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
					t.Fatalf("%q %v", lines.Text(), lines.Err())
				}
				lines.Scan()
			}
			if lines.Scan() || lines.Err() != nil {
				t.Errorf("after the end: %q %v", lines.Text(), lines.Err())
			}
			res.Body.Close()
		}
	})
}

func TestTrailers(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		r.upstream("grpc.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Trailer", "Announced")
			io.Copy(w, q.Body)
			w.Header().Set("Announced", q.Trailer.Get("Up-Sum"))
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		}))
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", "https://grpc.example/svc/Method", pr)
		req.Header.Set("Te", "trailers")
		req.Trailer = http.Header{"Up-Sum": nil}
		go func() {
			io.WriteString(pw, "message")
			req.Trailer.Set("Up-Sum", "42")
			pw.Close()
		}()
		res, body := do(t, r.client(guest), req)
		if body != "message" || res.Trailer.Get("Announced") != "42" || res.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("%q %v", body, res.Trailer)
		}
	})
}

// TestBothWaysAtOnce is what a gRPC stream does: the response begins before the request ends.
func TestBothWaysAtOnce(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		r.upstream("bidi.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.ProtoMajor == 1 {
				http.NewResponseController(w).EnableFullDuplex()
			}
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			lines := bufio.NewScanner(q.Body)
			for lines.Scan() {
				fmt.Fprintf(w, "echo %s\n", lines.Text())
				w.(http.Flusher).Flush()
			}
		}))
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", "https://bidi.example/", pr)
		go io.WriteString(pw, "one\n")
		res, err := r.client(guest).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for _, next := range []string{"two\n", "three\n", ""} {
			if !lines.Scan() || !strings.HasPrefix(lines.Text(), "echo ") {
				t.Fatalf("%q %v", lines.Text(), lines.Err())
			}
			if next == "" {
				pw.Close()
			} else {
				io.WriteString(pw, next)
			}
		}
		if lines.Scan() || lines.Err() != nil {
			t.Errorf("%q %v", lines.Text(), lines.Err())
		}
		e := r.row("of the stream", done(200))
		if e.Sent != 14 || e.Received != 29 {
			t.Errorf("%+v", e)
		}
	})
}

func TestUnencryptedHTTP2(t *testing.T) {
	r := newRig(t, nil)
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Proto) }))
	s.Config.Protocols = &p
	s.Start()
	t.Cleanup(s.Close)
	r.route("h2c.example", s.Listener.Addr().String())
	c := r.client(false)
	c.Transport.(*http.Transport).Protocols = &p
	if res, body := get(t, c, "http://h2c.example/"); body != "HTTP/2.0" || res.ProtoMajor != 2 {
		t.Errorf("%s %s", res.Proto, body)
	}
	if _, body := get(t, c, "http://other.example/"); !strings.Contains(body, "Capsid blocked") {
		t.Error(body)
	}
}

func TestSmallPrint(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		r.upstream("x.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			switch q.URL.Path {
			case "/204":
				w.WriteHeader(204)
			case "/304":
				w.Header().Set("Etag", `"e"`)
				w.WriteHeader(304)
			case "/range":
				http.ServeContent(w, q, "f.bin", time.Time{}, strings.NewReader("0123456789"))
			case "/untyped":
				w.Header()["Content-Type"] = nil
				io.WriteString(w, "<html>")
			case "/hints":
				w.Header().Set("Link", "</style.css>")
				w.WriteHeader(103)
				io.WriteString(w, "ok")
			case "/refuse":
				w.WriteHeader(417) // without reading the body
			case "/redirect":
				http.Redirect(w, q, "https://elsewhere.example/", http.StatusFound)
			default:
				io.Copy(io.Discard, q.Body)
				w.Header().Set("Content-Length", "10")
				if q.Method != "HEAD" {
					io.WriteString(w, "0123456789")
				}
			}
		}))
		c := r.client(guest)
		ask := func(method, path string, body io.Reader, header ...string) (*http.Response, string) {
			t.Helper()
			q, err := http.NewRequest(method, "https://x.example"+path, body)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(header); i += 2 {
				q.Header.Set(header[i], header[i+1])
			}
			return do(t, c, q)
		}
		if res, body := ask("HEAD", "/", nil); res.ContentLength != 10 || body != "" {
			t.Errorf("HEAD: %d %q", res.ContentLength, body)
		}
		if res, _ := ask("GET", "/204", nil); res.StatusCode != 204 {
			t.Error(res.Status)
		}
		if res, _ := ask("GET", "/304", nil); res.StatusCode != 304 || res.Header.Get("Etag") != `"e"` {
			t.Error(res.Status)
		}
		if res, body := ask("GET", "/range", nil, "Range", "bytes=2-4"); res.StatusCode != 206 || body != "234" || res.Header.Get("Content-Range") != "bytes 2-4/10" {
			t.Errorf("range: %v %q", res.Status, body)
		}
		if res, _ := ask("GET", "/untyped", nil); res.Header.Get("Content-Type") != "" {
			t.Errorf("a type was made up: %q", res.Header.Get("Content-Type"))
		}
		if _, body := ask("GET", "/hints", nil); body != "ok" {
			t.Errorf("hints: %q", body)
		}
		if res, _ := ask("GET", "/redirect", nil); res.StatusCode != http.StatusFound || res.Header.Get("Location") != "https://elsewhere.example/" {
			t.Error(res.Status)
		}
		if res, _ := ask("OPTIONS", "/", nil); res.StatusCode != 200 {
			t.Error(res.Status)
		}
		if res, body := ask("POST", "/", strings.NewReader("abc"), "Expect", "100-continue"); res.StatusCode != 200 || body != "0123456789" {
			t.Errorf("100-continue: %v %q", res.Status, body)
		}
		if res, _ := ask("POST", "/refuse", strings.NewReader(strings.Repeat("x", 1<<20)), "Expect", "100-continue"); res.StatusCode != 417 {
			t.Errorf("refused expectation: %v", res.Status)
		}
		for range 20 { // the connection is still good
			if res, body := ask("DELETE", "/", nil); res.StatusCode != 200 || body != "0123456789" {
				t.Fatalf("%v %q", res.Status, body)
			}
		}
	})
}

func TestHeaderLimits(t *testing.T) {
	protocols(t, func(t *testing.T, guest, up bool) {
		r := newRig(t, nil)
		r.upstream("big.example", up, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("X-Big", strings.Repeat("x", len(q.URL.RawQuery)*1000))
		}))
		c := r.client(guest)
		if res, _ := get(t, c, "https://big.example/", "X-Ok", strings.Repeat("x", 100<<10)); res.StatusCode != 200 {
			t.Errorf("100 KiB of header: %v", res.Status)
		}
		q, _ := http.NewRequest("GET", "https://big.example/", nil)
		q.Header.Set("X-Big", strings.Repeat("x", maxRequestHeader+(64<<10)))
		if res, err := r.client(guest).Do(q); err == nil {
			res.Body.Close()
			if res.StatusCode != 431 {
				t.Errorf("too large a header: %v", res.Status)
			}
		}
		res, body := get(t, c, "https://big.example/?"+strings.Repeat("y", 600))
		if res.StatusCode != 502 || !strings.Contains(body, "could not carry") {
			t.Errorf("too large a response header: %v %s", res.Status, body)
		}
		r.row("of the failure", func(e ledger.Entry) bool {
			return e.Done && e.Status == 502 && e.Reason != "" && e.Decision == ledger.Allow
		})
	})
}

func TestHowToAllow(t *testing.T) {
	locked := false
	r := newRig(t, func(c *Config) { c.Locked = func() bool { return locked } })
	for _, c := range []struct {
		d           notice
		locked      bool
		allow, text string
	}{
		{notice{Host: "a.example", Port: 443, Decision: ledger.Ask, Rule: "default", Source: "built in"}, false, "capsid allow a.example --session 5e551011", "Blocked tab"},
		{notice{Host: "a.example", Port: 22, Decision: ledger.Ask, Rule: "default", Source: "built in"}, false, "capsid allow a.example:22 --session 5e551011", ""},
		{notice{Host: "2001:db8::1", Port: 8080, Decision: ledger.Ask, Rule: "default", Source: "user.toml:2"}, false, "", "No click"},
		{notice{Host: "2606:4700::1", Port: 8080, Decision: ledger.Ask, Rule: "default", Source: "user.toml:2"}, false, "capsid allow [2606:4700::1]:8080 --session 5e551011", ""},
		{notice{Host: "a.example", Port: 443, Decision: ledger.Block, Rule: "default", Source: "user.toml:2"}, false, "capsid allow a.example --session 5e551011", ""},
		{notice{Host: "a.example", Port: 443, Decision: ledger.Block, Rule: "a.example", Source: "decisions.toml:9"}, false, "capsid allow a.example --session 5e551011", ""},
		{notice{Host: "a.example", Port: 443, Decision: ledger.Block, Rule: "a.example", Source: "user.toml:9"}, false, "", "user.toml:9"},
		{notice{Host: "a.example", Port: 443, Decision: ledger.Ask, Rule: "default", Source: "corp.toml:1"}, true, "", "organisation"},
		{notice{Host: "127.0.0.1", Port: 80, Decision: ledger.Block, Rule: "private addresses", Source: "built in"}, false, "", "No click"},
	} {
		locked = c.locked
		r.srv.howToAllow(&c.d)
		if c.d.Allow != c.allow || !strings.Contains(c.d.HowTo, c.text) {
			t.Errorf("%+v", c.d)
		}
	}
}

func TestRowURL(t *testing.T) {
	for _, c := range []struct{ in, host, want string }{
		{"/a?key=AIza&x=1&access_token=t&x-goog-signature=s&X-Amz-Credential=c", "a.example", "https://a.example/a?key=…&x=1&access_token=…&x-goog-signature=…&X-Amz-Credential=…"},
		{"/a?%6bey=v&keyboard=us", "a.example", "https://a.example/a?%6bey=…&keyboard=us"},
		{"https://user:pass@a.example/p", "a.example", "https://a.example/p"},
		{"*", "a.example", "https://a.example/*"},
		{"/%2e%2e/x", "2001:db8::1", "https://[2001:db8::1]/%2e%2e/x"},
	} {
		u, err := url.ParseRequestURI(c.in)
		if err != nil {
			u = &url.URL{Path: c.in}
		}
		if got := rowURL(&guestConn{host: c.host, port: 443, secure: true}, u); got != c.want {
			t.Errorf("%s: %s", c.in, got)
		}
	}
	u := &url.URL{Path: "/" + strings.Repeat("é", 5000), RawQuery: strings.Repeat("a&", 100000)}
	if got := rowURL(&guestConn{host: "a.example", port: 8080}, u); len(got) > maxURL || !utf8.ValidString(got) || !strings.HasPrefix(got, "http://a.example:8080/") {
		t.Errorf("%d bytes", len(got))
	}
}
