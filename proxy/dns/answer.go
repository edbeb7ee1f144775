package dns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

const (
	ttl = 30 // seconds; a name keeps its address anyway

	// IANA's registry of types; dnsmessage has no names for these.
	typeNULL  dnsmessage.Type = 10
	typeNAPTR dnsmessage.Type = 35
	typeCAA   dnsmessage.Type = 257

	ednsSize = 1232 // dnsflagday.net/2020; it has no meaning on TCP, but an OPT must say something
)

// reply is what will be said about a question.
type reply struct {
	code dnsmessage.RCode
	addr netip.Addr // A or AAAA, when valid
	ptr  string     // PTR, when not empty
}

var (
	noSuchName = reply{code: dnsmessage.RCodeNameError}
	noData     = reply{code: dnsmessage.RCodeSuccess}
	refused    = reply{code: dnsmessage.RCodeRefused}
)

// Answer returns the answer to one message, or nil when the stream must end: what came is not a question.
func (s *Server) Answer(msg []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(msg)
	if err != nil || head.Response {
		s.refuse("", "", "messages", "not a DNS question")
		return nil
	}
	fail := func(code dnsmessage.RCode) []byte {
		b := dnsmessage.NewBuilder(nil, answerHeader(head, code))
		out, err := b.Finish()
		if err != nil {
			return nil
		}
		return out
	}
	if head.OpCode != 0 {
		s.refuse("", "", "messages", fmt.Sprintf("DNS operation %d: only questions are answered", head.OpCode))
		return fail(dnsmessage.RCodeNotImplemented)
	}
	q, err := p.Question()
	if err != nil {
		s.refuse("", "", "messages", "a malformed DNS question")
		return fail(dnsmessage.RCodeFormatError)
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		s.refuse("", "", "messages", "a DNS message with more than one question")
		return fail(dnsmessage.RCodeFormatError)
	}
	edns, err := hasEDNS(&p)
	if err != nil {
		s.refuse("", "", "messages", "a malformed DNS message")
		return fail(dnsmessage.RCodeFormatError)
	}
	out, err := build(head, q, s.reply(q), edns)
	if err != nil {
		return fail(dnsmessage.RCodeServerFailure)
	}
	return out
}

func hasEDNS(p *dnsmessage.Parser) (bool, error) {
	if err := p.SkipAllAnswers(); err != nil {
		return false, err
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return false, err
	}
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if h.Type == dnsmessage.TypeOPT {
			return true, nil
		}
		if err := p.SkipAdditional(); err != nil {
			return false, err
		}
	}
}

func answerHeader(h dnsmessage.Header, code dnsmessage.RCode) dnsmessage.Header {
	return dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code}
}

// build repeats the question as it was written: some resolvers use its upper and lower case as a cookie.
func build(h dnsmessage.Header, q dnsmessage.Question, r reply, edns bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), answerHeader(h, r.code))
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	var err error
	switch {
	case r.ptr != "":
		var name dnsmessage.Name
		if name, err = dnsmessage.NewName(r.ptr + "."); err == nil {
			err = b.PTRResource(rh, dnsmessage.PTRResource{PTR: name})
		}
	case r.addr.Is4():
		err = b.AResource(rh, dnsmessage.AResource{A: r.addr.As4()})
	case r.addr.Is6():
		err = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: r.addr.As16()})
	}
	if err != nil {
		return nil, err
	}
	if edns {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		var oh dnsmessage.ResourceHeader
		if err := oh.SetEDNS0(ednsSize, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		if err := b.OPTResource(oh, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// reply decides about one question.
func (s *Server) reply(q dnsmessage.Question) reply {
	raw := strings.TrimSuffix(q.Name.String(), ".")
	kind := typeName(q.Type)
	if q.Class != dnsmessage.ClassINET {
		s.refuse(raw, kind, "question classes", "only the class IN is answered")
		return refused
	}
	if q.Type == dnsmessage.TypePTR {
		return s.reverse(strings.ToLower(raw))
	}
	host, err := policy.Canonical(raw)
	if err != nil {
		s.refuse(raw, kind, "host names", err.Error())
		return noSuchName
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return noSuchName // an address is no name
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 §6.3
		switch q.Type {
		case dnsmessage.TypeA:
			return reply{addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		case dnsmessage.TypeAAAA:
			return reply{addr: netip.IPv6Loopback()}
		}
		return noData
	}
	v := s.cfg.Name(host)
	if special(host) && (v.Decision != ledger.Allow || v.Rule == "*" || v.Rule == "default") {
		return noSuchName // unless a rule means it
	}
	switch q.Type {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB:
		return s.name(host, kind, q.Type, v)
	}
	if q.Type == dnsmessage.TypeSRV && v.Decision == ledger.Allow || q.Type == typeCAA {
		return noData // asked by habit (apt asks SRV for every mirror), and nothing carries data in it
	}
	s.refuse(host, kind, "question types", kind+" questions are not answered: only addresses of hosts are")
	return refused
}

// special are names that are nobody's on the Internet: they fail at once, without a row, as they would on any network.
func special(host string) bool {
	if !strings.Contains(host, ".") {
		return true
	}
	for _, s := range []string{".local", ".invalid", ".onion", ".home.arpa", ".internal", ".in-addr.arpa", ".ip6.arpa"} { // RFC 6762, 6761, 7686, 8375; ICANN 2024
		if strings.HasSuffix(host, s) {
			return true
		}
	}
	return false
}

func (s *Server) name(host, kind string, t dnsmessage.Type, v policy.Verdict) reply {
	if v.Decision != ledger.Allow && !s.cfg.Table.Has(host) {
		if why := s.floods.suspect(host, time.Now()); why != "" {
			s.cfg.Add(ledger.Entry{
				Time: time.Now(), Session: s.cfg.Session, Kind: ledger.DNS, Method: kind, Host: host, Decision: v.Decision,
				Rule: v.Rule, Source: v.Source, Reason: why, Done: true,
			})
			return refused
		}
	}
	// Bound for every type, so that the name counts once however many types are asked.
	addr, err := s.cfg.Table.Bind(host)
	if err != nil {
		s.refuse(host, kind, "names in use", err.Error())
		return reply{code: dnsmessage.RCodeServerFailure}
	}
	if t != dnsmessage.TypeA {
		return noData
	}
	return reply{addr: addr}
}

// reverse answers for synthetic addresses; all others have no name here.
func (s *Server) reverse(name string) reply {
	rest, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		return noSuchName
	}
	parts := strings.Split(rest, ".")
	if len(parts) != 4 {
		return noSuchName
	}
	var b [4]byte
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return noSuchName
		}
		b[3-i] = byte(n)
	}
	if host, ok := s.cfg.Table.Name(netip.AddrFrom4(b)); ok {
		return reply{ptr: host}
	}
	return noSuchName
}

func typeName(t dnsmessage.Type) string {
	switch t {
	case typeCAA:
		return "CAA"
	case typeNAPTR:
		return "NAPTR"
	case typeNULL:
		return "NULL"
	case dnsmessage.TypeALL:
		return "ANY"
	}
	name := t.String()
	if short, ok := strings.CutPrefix(name, "Type"); ok {
		return short
	}
	return "TYPE" + strconv.Itoa(int(t)) // RFC 3597 §5
}
