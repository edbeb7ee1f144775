package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type rows struct {
	mu   sync.Mutex
	list []ledger.Entry
}

func (r *rows) add(e ledger.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
}

func (r *rows) all() []ledger.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func allowed(hosts ...string) func(string) policy.Verdict {
	return func(h string) policy.Verdict {
		if slices.Contains(hosts, h) {
			return policy.Verdict{Decision: ledger.Allow, Rule: h}
		}
		return policy.Verdict{Decision: ledger.Ask, Rule: "default", Source: "built in"}
	}
}

func newServer(t testing.TB, table *Table, name func(string) policy.Verdict) (*Server, *rows) {
	var r rows
	s := New(Config{Session: "s", Table: table, Name: name, Add: r.add})
	t.Cleanup(func() { s.Close() })
	return s, &r
}

func question(t testing.TB, name string, typ dnsmessage.Type, class dnsmessage.Class, edns bool) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 77, RecursionDesired: true})
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(b.StartQuestions())
	check(b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: class}))
	if edns {
		check(b.StartAdditionals())
		var h dnsmessage.ResourceHeader
		check(h.SetEDNS0(4096, 0, false))
		check(b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	out, err := b.Finish()
	check(err)
	return out
}

func ask(t testing.TB, s *Server, name string, typ dnsmessage.Type) dnsmessage.Message {
	t.Helper()
	return parse(t, s.Answer(question(t, name, typ, dnsmessage.ClassINET, false)))
}

func parse(t testing.TB, raw []byte) (m dnsmessage.Message) {
	t.Helper()
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	if m.ID != 77 || !m.Response {
		t.Fatalf("header %+v", m.Header)
	}
	return m
}

func address(t testing.TB, m dnsmessage.Message) netip.Addr {
	t.Helper()
	if len(m.Answers) != 1 {
		t.Fatalf("answers %v, code %v", m.Answers, m.RCode)
	}
	return netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A)
}

func TestAnswers(t *testing.T) {
	table := NewTable(0)
	s, r := newServer(t, table, allowed("ok.example", "printer.local", "nas"))
	a := address(t, ask(t, s, "ok.example.", dnsmessage.TypeA))
	if !Range.Contains(a) {
		t.Fatalf("address %v", a)
	}
	m := ask(t, s, "oK.ExAmPlE.", dnsmessage.TypeA)
	if address(t, m) != a || m.Questions[0].Name.String() != "oK.ExAmPlE." || m.Answers[0].Header.Name.String() != "oK.ExAmPlE." {
		t.Error("the same name in other letters got another answer")
	}
	if m.Answers[0].Header.TTL > 60 {
		t.Error("lives too long")
	}
	if b := address(t, ask(t, s, "not-allowed.example.", dnsmessage.TypeA)); b == a {
		t.Error("two names share an address")
	}
	if len(r.all()) != 0 {
		t.Errorf("rows for ordinary questions: %+v", r.all())
	}
	ptr := ask(t, s, reverseName(a), dnsmessage.TypePTR)
	if len(ptr.Answers) != 1 || ptr.Answers[0].Body.(*dnsmessage.PTRResource).PTR.String() != "ok.example." {
		t.Errorf("PTR %v", ptr.Answers)
	}

	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		code dnsmessage.RCode
		row  bool
	}{
		{"ok.example.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, false},
		{"ok.example.", dnsmessage.TypeHTTPS, dnsmessage.RCodeSuccess, false},
		{"ok.example.", dnsmessage.TypeSVCB, dnsmessage.RCodeSuccess, false},
		{"ok.example.", dnsmessage.TypeSRV, dnsmessage.RCodeSuccess, false},
		{"ok.example.", dnsmessage.TypeTXT, dnsmessage.RCodeRefused, true},
		{"ok.example.", dnsmessage.TypeMX, dnsmessage.RCodeRefused, true},
		{"ok.example.", dnsmessage.TypeCNAME, dnsmessage.RCodeRefused, true},
		{"ok.example.", typeNULL, dnsmessage.RCodeRefused, true},
		{"ok.example.", dnsmessage.TypeALL, dnsmessage.RCodeRefused, true},
		{"not.example.", dnsmessage.TypeSRV, dnsmessage.RCodeRefused, true},
		{"router.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
		{"x.invalid.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
		{"single.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
		{"1.2.3.4.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
		{"a.123.", dnsmessage.TypeA, dnsmessage.RCodeNameError, true},
		{"sp ace.example.", dnsmessage.TypeA, dnsmessage.RCodeNameError, true},
		{"4.3.2.1.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, false},
		{"x.ip6.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, false},
		{strings.Repeat("f", 50) + ".tunnel.example.", dnsmessage.TypeA, dnsmessage.RCodeRefused, true},
		{strings.Repeat("abcdef.", 25) + "tunnel.example.", dnsmessage.TypeAAAA, dnsmessage.RCodeRefused, true},
	} {
		before := len(r.all())
		m := ask(t, s, c.name, c.typ)
		if m.RCode != c.code || len(m.Answers) != 0 {
			t.Errorf("%s %v: code %v, answers %v", c.name, c.typ, m.RCode, m.Answers)
		}
		if got := len(r.all()) - before; got != 0 != c.row {
			t.Errorf("%s %v: %d rows", c.name, c.typ, got)
		}
	}
	for _, e := range r.all() {
		if e.Kind != ledger.DNS || e.Session != "s" || e.Reason == "" || e.Decision == ledger.Allow || e.Time.IsZero() || !e.Done {
			t.Errorf("row %+v", e)
		}
	}

	for _, name := range []string{"printer.local.", "nas."} { // named by a rule
		if !Range.Contains(address(t, ask(t, s, name, dnsmessage.TypeA))) {
			t.Error(name)
		}
	}
	if a := address(t, ask(t, s, "localhost.", dnsmessage.TypeA)); !a.IsLoopback() {
		t.Errorf("localhost is %v", a)
	}
}

func reverseName(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
}

func TestEDNSIsAnswered(t *testing.T) {
	s, _ := newServer(t, NewTable(0), allowed())
	m := parse(t, s.Answer(question(t, "a.example.", dnsmessage.TypeA, dnsmessage.ClassINET, true)))
	if len(m.Answers) != 1 || len(m.Additionals) != 1 || m.Additionals[0].Header.Type != dnsmessage.TypeOPT {
		t.Errorf("%v %v", m.Answers, m.Additionals)
	}
}

func TestBadMessages(t *testing.T) {
	s, r := newServer(t, NewTable(0), allowed())
	if m := parse(t, s.Answer(question(t, "version.bind.", dnsmessage.TypeTXT, dnsmessage.ClassCHAOS, false))); m.RCode != dnsmessage.RCodeRefused {
		t.Error(m.RCode)
	}
	q := question(t, "a.example.", dnsmessage.TypeA, dnsmessage.ClassINET, false)
	response := slices.Clone(q)
	response[2] |= 0x80
	update := slices.Clone(q)
	update[2] |= 5 << 3
	two := slices.Concat(q, q[12:])
	two[5] = 2
	for name, c := range map[string]struct {
		msg  []byte
		code dnsmessage.RCode
	}{
		"empty":         {nil, 0},
		"short":         {q[:11], 0},
		"a response":    {response, 0},
		"an update":     {update, dnsmessage.RCodeNotImplemented},
		"cut question":  {q[:len(q)-3], dnsmessage.RCodeFormatError},
		"two questions": {two, dnsmessage.RCodeFormatError},
	} {
		before := len(r.all())
		out := s.Answer(c.msg)
		if c.code == 0 && out != nil {
			t.Errorf("%s was answered", name)
		} else if c.code != 0 {
			if m := parse(t, out); m.RCode != c.code {
				t.Errorf("%s: %v", name, m.RCode)
			}
		}
		if len(r.all()) == before {
			t.Errorf("%s: no row", name)
		}
	}
}

func TestFloodOfNames(t *testing.T) {
	table := NewTable(0)
	s, r := newServer(t, table, func(h string) policy.Verdict {
		if strings.HasSuffix(h, ".good.example") {
			return policy.Verdict{Decision: ledger.Allow, Rule: "*.good.example"}
		}
		return policy.Verdict{Decision: ledger.Ask, Rule: "default"}
	})
	for i := range 1000 {
		ask(t, s, fmt.Sprintf("x%d.evil.example.org.", i), dnsmessage.TypeA)
		if m := ask(t, s, fmt.Sprintf("x%d.good.example.", i), dnsmessage.TypeA); m.RCode != dnsmessage.RCodeSuccess {
			t.Fatal("an allowed name was refused")
		}
	}
	if n := table.Len(); n != 1000+floodNames {
		t.Errorf("%d names", n)
	}
	if n := len(r.all()); n != 1000-floodNames {
		t.Errorf("%d refusals handed to the recorder", n)
	}
	if e := r.all()[0]; e.Decision != ledger.Ask || !strings.Contains(e.Reason, "example.org") {
		t.Errorf("%+v", e)
	}
	if m := ask(t, s, "x3.evil.example.org.", dnsmessage.TypeA); len(m.Answers) != 1 {
		t.Error("a name from before the flood was lost")
	}
	var f floods
	now := time.Now()
	for i := range 3 * floodTables {
		f.suspect(fmt.Sprintf("d%d.com", i), now)
	}
	if len(f.domains) > floodTables {
		t.Errorf("%d domains watched", len(f.domains))
	}
	for range floodNames + 1 {
		f.suspect("a.other.com", now)
	}
	if f.suspect("b.other.com", now) == "" || f.suspect("b.other.com", now.Add(2*floodWindow)) != "" {
		t.Error("the window does not end")
	}
}

func TestTableEviction(t *testing.T) {
	tab := NewTable(3)
	bind := func(n string) netip.Addr {
		t.Helper()
		a, err := tab.Bind(n)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, b := bind("a"), bind("b")
	bind("c")
	_, release, ok := tab.Hold(a)
	if !ok {
		t.Fatal("no binding")
	}
	bind("c")
	bind("d") // b goes: a is held, c was asked again
	if _, ok := tab.Name(b); ok || !tab.Has("a") || !tab.Has("c") || !tab.Has("d") || tab.Len() != 3 {
		t.Error("the wrong one went")
	}
	_, relC, _ := tab.Hold(bind("c"))
	_, relC2, _ := tab.Hold(bind("c"))
	_, relD, _ := tab.Hold(bind("d"))
	if _, err := tab.Bind("e"); !errors.Is(err, ErrFull) {
		t.Errorf("full: %v", err)
	}
	relC()
	relC()
	if _, err := tab.Bind("e"); !errors.Is(err, ErrFull) {
		t.Error("a release counted twice")
	}
	relC2()
	if e := bind("e"); e == b {
		t.Error("an address was given out again at once")
	}
	if tab.Has("c") || bind("a") != a {
		t.Error("not the unused one went")
	}
	release()
	relD()
	if _, _, ok := tab.Hold(netip.MustParseAddr("198.18.0.1")); ok {
		t.Error("a reserved address is bound")
	}
}

func TestTableWrapsAround(t *testing.T) {
	tab := NewTable(100)
	seen := map[netip.Addr]bool{}
	for i := range rangeSize + 5000 {
		a, err := tab.Bind(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if !Range.Contains(a) || a.As4()[1] == 18 && a.As4()[2] == 0 || a.String() == "198.19.255.255" {
			t.Fatalf("gave out %v", a)
		}
		seen[a] = true
	}
	if tab.Len() != 100 || len(seen) != rangeSize-reserved-1 {
		t.Errorf("%d names, %d addresses", tab.Len(), len(seen))
	}
}

func TestStreams(t *testing.T) {
	s, r := newServer(t, NewTable(0), allowed())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	res := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			ips, err := res.LookupNetIP(ctx, "ip", fmt.Sprintf("h%d.example.", i))
			if err != nil || len(ips) != 1 || !Range.Contains(ips[0].Unmap()) {
				t.Errorf("%v %v", ips, err)
			}
		})
	}
	wg.Wait()

	// Pipelined questions on one stream, in order, in two writes that cut a message.
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	var out []byte
	for _, n := range []string{"one.example.", "two.example."} {
		q := question(t, n, dnsmessage.TypeA, dnsmessage.ClassINET, false)
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(q))), q...)
	}
	c.Write(out[:20])
	c.Write(out[20:])
	for _, n := range []string{"one.example.", "two.example."} {
		var head [2]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		if m := parse(t, buf); m.Questions[0].Name.String() != n {
			t.Errorf("answer for %v", m.Questions)
		}
	}
	c.Write([]byte{0xff, 0xff}) // too long: the stream ends
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d %v", n, err)
	}
	if rows := r.all(); len(rows) != 1 || rows[0].Rule != "messages" {
		t.Errorf("%+v", rows)
	}

	open, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	s.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	open.SetDeadline(time.Now().Add(time.Minute))
	if _, err := open.Read(make([]byte, 1)); err == nil {
		t.Error("a stream outlived Close")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(question(f, "a.example.", dnsmessage.TypeA, dnsmessage.ClassINET, true))
	f.Add(question(f, "1.0.18.198.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.ClassINET, false))
	f.Add(question(f, "x.example.", dnsmessage.TypeTXT, dnsmessage.ClassANY, false))
	f.Fuzz(func(t *testing.T, msg []byte) {
		s := New(Config{Table: NewTable(64), Name: allowed("ok.example"), Add: func(ledger.Entry) {}})
		out := s.Answer(msg)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Fatalf("answer does not parse: %v", err)
		}
		if len(msg) < 2 || m.ID != binary.BigEndian.Uint16(msg) || !m.Response || len(out) > 1024 {
			t.Fatalf("answer %+v of %d bytes", m.Header, len(out))
		}
		for _, a := range m.Answers {
			if r, ok := a.Body.(*dnsmessage.AResource); ok {
				if ip := netip.AddrFrom4(r.A); !Range.Contains(ip) && !ip.IsLoopback() {
					t.Fatalf("answered %v", ip)
				}
			}
		}
	})
}
