package policy

import (
	"fmt"
	"net/netip"
	"path"
	"strings"

	"capsid/proxy/ledger"
)

// Paths says where policy is read from. A file that does not exist is skipped; an empty path means none.
type Paths struct {
	Corp             string // corp.toml
	Session          string // a policy file for this session alone
	User             string // user.toml
	SessionDecisions string // what was clicked for this session
	Decisions        string // decisions.toml: for projects and for always
	Project          string // the workspace that project decisions are compared with
	Agent            []Grant
}

// Grant is a host that an agent's own file asks for.
type Grant struct {
	Host   string
	Source string // where it stands, "claude.toml:12"
}

// Verdict is an answer and why.
type Verdict struct {
	Decision ledger.Decision
	Rule     string // the pattern that decided
	Source   string // file:line of it
	Reason   string // one line for a person, may be empty
	// PrivateOK: a rule names this very address, or says private = true, so an address that Private reports may be dialed.
	PrivateOK bool
}

// Request is one HTTP request. Host is as Canonical returns it.
type Request struct {
	Host   string
	Port   int
	Method string
	Path   string // as URL.Path: decoded
}

// Policy is a compiled set of files. It never changes.
type Policy struct {
	corp, session, user *layer
	decisions           []entry
	agent               []entry
}

// Load reads all files. Its errors are *Error.
func Load(p Paths) (*Policy, error) {
	out := &Policy{}
	var err error
	if out.corp, err = readLayer(p.Corp, true); err != nil {
		return nil, err
	}
	if out.session, err = readLayer(p.Session, false); err != nil {
		return nil, err
	}
	if out.user, err = readLayer(p.User, false); err != nil {
		return nil, err
	}
	for _, l := range []*layer{out.session, out.user} {
		if at := l.hasNetwork; at != nil && out.corp.lockNetwork {
			return nil, locked(l.file, *at, "network", p.Corp)
		}
		if at := l.hasSession; at != nil && out.corp.lockSession {
			return nil, locked(l.file, *at, "session", p.Corp)
		}
	}
	if out.corp.lockNetwork {
		return out, nil
	}
	if out.decisions, err = readDecisions(p); err != nil {
		return nil, err
	}
	for _, g := range p.Agent {
		pat, err := parsePattern(g.Host)
		if err != nil {
			return nil, &Error{File: g.Source, Message: err.Error()}
		}
		out.agent = append(out.agent, entry{pattern: pat, action: ledger.Allow, source: g.Source})
	}
	return out, nil
}

func locked(file string, at place, table, corp string) error {
	return &Error{File: file, Line: at.line, Column: at.column, Message: fmt.Sprintf("[%s] is locked by %s", table, corp), Hint: "remove the table"}
}

// Name answers whether a name may be resolved at all: whether any connection to it could be allowed.
func (p *Policy) Name(host string) Verdict { return p.decide(Request{Host: host}, false) }

// Connect answers whether a connection may be opened, before a request is known. Where rules look at methods or paths, it is
// allowed if some request could be.
func (p *Policy) Connect(host string, port int) Verdict {
	return p.decide(Request{Host: host, Port: port}, false)
}

// Request answers for one request.
func (p *Policy) Request(r Request) Verdict { return p.decide(r, true) }

func (p *Policy) decide(r Request, whole bool) Verdict {
	host, err := Canonical(r.Host)
	if err != nil {
		return Verdict{Decision: ledger.Block, Rule: "host names", Source: "built in", Reason: err.Error()}
	}
	r.Host = host
	v, ok := p.lookup(r, whole)
	if !ok {
		v = p.fallback()
	}
	if a, err := netip.ParseAddr(host); err == nil && v.Decision != ledger.Block && Private(a) && !v.PrivateOK {
		return Verdict{Decision: ledger.Block, Rule: "private addresses", Source: "built in",
			Reason: host + " is a private, local or reserved address; only a rule in a policy file that names it can open it"}
	}
	return v
}

func (p *Policy) lookup(r Request, whole bool) (Verdict, bool) {
	if v, ok := find(p.corp.block, r); ok {
		return v, true
	}
	for _, step := range []func() (Verdict, bool){
		func() (Verdict, bool) { return findRule(p.corp.rules, r, whole) },
		func() (Verdict, bool) { return find(p.corp.allow, r) },
		func() (Verdict, bool) { return findRule(p.session.rules, r, whole) },
		func() (Verdict, bool) { return find(p.session.block, r) },
		func() (Verdict, bool) { return find(p.session.allow, r) },
		func() (Verdict, bool) { return findRule(p.user.rules, r, whole) },
		func() (Verdict, bool) { return find(p.user.block, r) },
		func() (Verdict, bool) { return withoutPrivate(find(p.decisions, r)) },
		func() (Verdict, bool) { return find(p.user.allow, r) },
		func() (Verdict, bool) { return withoutPrivate(find(p.agent, r)) },
	} {
		if v, ok := step(); ok {
			return v, true
		}
	}
	return Verdict{}, false
}

// withoutPrivate: what was clicked, and what an agent's file asks for, never opens a private address.
func withoutPrivate(v Verdict, ok bool) (Verdict, bool) {
	v.PrivateOK = false
	return v, ok
}

func (p *Policy) fallback() Verdict {
	for _, l := range []*layer{p.corp, p.session, p.user} {
		if l.def != nil {
			return l.def.verdict()
		}
	}
	return Verdict{Decision: ledger.Ask, Rule: "default", Source: "built in"}
}

func (e *entry) verdict() Verdict {
	return Verdict{Decision: e.action, Rule: e.text, Source: e.source, Reason: e.reason}
}

func find(list []entry, r Request) (Verdict, bool) {
	for i := range list {
		e := &list[i]
		port := r.Port
		if e.action == ledger.Block && e.port == 0 {
			port = 0 // a host that is blocked is blocked on every port
		}
		if e.matches(r.Host, port) {
			v := e.verdict()
			v.PrivateOK = e.action == ledger.Allow && e.prefix.IsValid()
			return v, true
		}
	}
	return Verdict{}, false
}

func findRule(list []rule, r Request, whole bool) (Verdict, bool) {
	for i := range list {
		e := &list[i]
		port := r.Port
		if e.action != ledger.Allow && e.port == 0 {
			port = 0
		}
		if !e.matches(r.Host, port) {
			continue
		}
		if whole && !e.meansRequest(r) {
			continue
		}
		if !whole && e.action != ledger.Allow && (e.methods != nil || e.paths != nil) {
			continue // other requests to this host may still be allowed
		}
		v := e.verdict()
		v.PrivateOK = e.action == ledger.Allow && (e.prefix.IsValid() || e.private)
		return v, true
	}
	return Verdict{}, false
}

func (r *rule) meansRequest(q Request) bool {
	if r.methods != nil && !contains(r.methods, q.Method) {
		return false
	}
	if r.paths == nil {
		return true
	}
	// Dot segments are resolved before the comparison, as most servers do, and what looks different after it matches no allowing rule:
	// "/acme/../other" must not pass for "/acme/**".
	clean := path.Clean("/" + q.Path)
	if strings.HasSuffix(q.Path, "/") && clean != "/" {
		clean += "/"
	}
	if clean != q.Path && r.action == ledger.Allow {
		return false
	}
	for _, g := range r.paths {
		if g.MatchString(clean) {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Upstream returns where connections to host:port really go, when a policy file says so. Naming it there is naming its address, so a private one is fine.
func (p *Policy) Upstream(host string, port int) (Upstream, bool) {
	for _, l := range []*layer{p.corp, p.session, p.user} {
		for i := range l.upstreams {
			if l.upstreams[i].matches(host, port) {
				return l.upstreams[i].Upstream, true
			}
		}
	}
	return Upstream{}, false
}

// Session returns the defaults of new sessions, key by key from the first file that has one.
func (p *Policy) Session() SessionDefaults {
	var out SessionDefaults
	for _, l := range []*layer{p.user, p.session, p.corp} {
		if n := l.session.CPUs; n != 0 {
			out.CPUs = n
		}
		if n := l.session.Memory; n != 0 {
			out.Memory = n
		}
		if b := l.session.Backend; b != "" {
			out.Backend = b
		}
		if l.warm != nil {
			out.Cold = !*l.warm
		}
	}
	return out
}

// Locked reports whether corp.toml refuses a person's network policy, clicks included.
func (p *Policy) Locked() bool { return p.corp.lockNetwork }
