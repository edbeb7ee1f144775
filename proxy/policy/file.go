package policy

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"capsid/proxy/ledger"
)

// maxFile bounds a policy file; nobody writes one so long.
const maxFile = 4 << 20

// Error is a fault in a policy file.
type Error struct {
	File         string
	Line, Column int // 1-based; 0 when the fault has no place
	Message      string
	Hint         string // the next step, may be empty
}

func (e *Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	}
	if e.Hint != "" {
		return place + ": " + e.Message + " (" + e.Hint + ")"
	}
	return place + ": " + e.Message
}

// document is a policy file as it is written.
type document struct {
	Network struct {
		Lock     bool                    `toml:"lock"`
		Default  *string                 `toml:"default"`
		Allow    []string                `toml:"allow"`
		Block    []string                `toml:"block"`
		Rule     []ruleText              `toml:"rule"`
		Upstream map[string]upstreamText `toml:"upstream"`
	} `toml:"network"`
	Session struct {
		Lock    bool    `toml:"lock"`
		CPUs    *int    `toml:"cpus"`
		Memory  *string `toml:"memory"`
		Backend *string `toml:"backend"`
		Warm    *bool   `toml:"warm"`
	} `toml:"session"`
}

type ruleText struct {
	Host    string   `toml:"host"`
	Methods []string `toml:"methods"`
	Paths   []string `toml:"paths"`
	Action  string   `toml:"action"`
	Reason  string   `toml:"reason"`
	Private bool     `toml:"private"`
}

type upstreamText struct {
	Address string `toml:"address"`
	CA      string `toml:"ca"`
}

// layer is one policy file, compiled.
type layer struct {
	file         string
	lockNetwork  bool
	lockSession  bool
	def          *entry // nil when the file has no default
	rules        []rule
	block, allow []entry
	upstreams    []upstreamEntry
	session      SessionDefaults
	warm         *bool  // of session, which cannot tell no from nothing
	hasNetwork   *place // where the file first says something about the network
	hasSession   *place
}

// entry is a pattern and where it stands.
type entry struct {
	pattern
	action ledger.Decision
	source string
	reason string
}

// rule is an entry that may look at the request too.
type rule struct {
	entry
	methods []string
	paths   []*regexp.Regexp
	private bool
}

type upstreamEntry struct {
	pattern
	Upstream
}

// Upstream is where connections to a host really go.
type Upstream struct {
	Address string         // host:port
	CAFile  string         // PEM of the authorities that vouch for it; empty means the host's trust store
	RootCAs *x509.CertPool // read from CAFile
}

// SessionDefaults are the sizes of a new session and what runs it; zero where no file says.
type SessionDefaults struct {
	CPUs    int
	Memory  int64  // bytes
	Backend string // one of backends
	Cold    bool   // machines boot: none goes on from one that was kept
}

// backends are what may run a machine: "auto" is the best that works.
var backends = []string{"auto", "kvm", "soft"}

// readLayer reads a file; a missing one gives an empty layer.
func readLayer(path string, corp bool) (*layer, error) {
	data, err := readFile(path)
	if err != nil || data == nil {
		return &layer{file: path}, err
	}
	return parseLayer(path, data, corp)
}

func readFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{File: path, Message: err.Error(), Hint: "a policy that cannot be read lets nothing out: make it readable or move it away"}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &Error{File: path, Message: err.Error()}
	}
	if len(data) > maxFile {
		return nil, &Error{File: path, Message: "larger than 4 MiB"}
	}
	return data, nil
}

// decodeStrict decodes TOML into v; syntax faults, wrong types and unknown keys come back as *Error.
func decodeStrict(path string, data []byte, v any) error {
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		return nil
	}
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		e := strict.Errors[0]
		line, column := e.Position()
		return &Error{File: path, Line: line, Column: column, Message: fmt.Sprintf("unknown key %q", strings.Join(e.Key(), "."))}
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, column := de.Position()
		return &Error{File: path, Line: line, Column: column, Message: strings.TrimPrefix(de.Error(), "toml: ")}
	}
	return &Error{File: path, Message: err.Error()}
}

func parseLayer(path string, data []byte, corp bool) (*layer, error) {
	var doc document
	if err := decodeStrict(path, data, &doc); err != nil {
		return nil, err
	}
	c := compiler{path: path, at: positions(data)}
	l := &layer{file: path, lockNetwork: doc.Network.Lock, lockSession: doc.Session.Lock}
	l.hasNetwork, l.hasSession = c.first("network"), c.first("session")
	if !corp {
		for _, t := range []string{"network", "session"} {
			if p, ok := c.at[t+".lock"]; ok {
				return nil, c.fail(p, "lock belongs in corp.toml alone", "remove the line")
			}
		}
	}
	if d := doc.Network.Default; d != nil {
		p := c.at["network.default"]
		a, ok := action(*d)
		if !ok {
			return nil, c.fail(p, fmt.Sprintf("default = %q", *d), `use "ask", "allow" or "block"`)
		}
		l.def = &entry{pattern: pattern{text: "default"}, action: a, source: c.source(p)}
	}
	var err error
	if l.block, err = c.list("network.block", doc.Network.Block, ledger.Block); err != nil {
		return nil, err
	}
	if l.allow, err = c.list("network.allow", doc.Network.Allow, ledger.Allow); err != nil {
		return nil, err
	}
	for i, r := range doc.Network.Rule {
		compiled, err := c.rule(fmt.Sprintf("network.rule[%d]", i), r)
		if err != nil {
			return nil, err
		}
		l.rules = append(l.rules, compiled)
	}
	for host, u := range doc.Network.Upstream {
		compiled, err := c.upstream("network.upstream."+host, host, u)
		if err != nil {
			return nil, err
		}
		l.upstreams = append(l.upstreams, compiled)
	}
	if n := doc.Session.CPUs; n != nil {
		if *n < 1 || *n > 16 {
			return nil, c.fail(c.at["session.cpus"], fmt.Sprintf("cpus = %d", *n), "a machine has 1 to 16")
		}
		l.session.CPUs = *n
	}
	if m := doc.Session.Memory; m != nil {
		n, err := ParseSize(*m)
		if err != nil {
			return nil, c.fail(c.at["session.memory"], err.Error(), `write it as "4GiB"`)
		}
		l.session.Memory = n
	}
	if b := doc.Session.Backend; b != nil {
		if !slices.Contains(backends, *b) {
			return nil, c.fail(c.at["session.backend"], fmt.Sprintf("backend = %q", *b), `use "auto", "kvm" or "soft"`)
		}
		l.session.Backend = *b
	}
	l.warm = doc.Session.Warm
	return l, nil
}

// compiler turns the text of one file into patterns that know where they stand.
type compiler struct {
	path string
	at   map[string]place
}

func (c *compiler) fail(p place, message, hint string) error {
	return &Error{File: c.path, Line: p.line, Column: p.column, Message: message, Hint: hint}
}

func (c *compiler) source(p place) string {
	if p.line == 0 {
		return filepath.Base(c.path)
	}
	return fmt.Sprintf("%s:%d", filepath.Base(c.path), p.line)
}

// first finds the earliest place at or below a table.
func (c *compiler) first(table string) *place {
	var out *place
	for k, p := range c.at {
		if k != table && !strings.HasPrefix(k, table+".") && !strings.HasPrefix(k, table+"[") || strings.HasSuffix(k, ".lock") {
			continue
		}
		if out == nil || p.line < out.line {
			out = &p
		}
	}
	return out
}

func (c *compiler) list(key string, hosts []string, a ledger.Decision) ([]entry, error) {
	var out []entry
	for i, h := range hosts {
		p, ok := c.at[fmt.Sprintf("%s[%d]", key, i)]
		if !ok {
			p = c.at[key]
		}
		pat, err := parsePattern(h)
		if err != nil {
			return nil, c.fail(p, err.Error(), "")
		}
		out = append(out, entry{pattern: pat, action: a, source: c.source(p)})
	}
	return out, nil
}

func (c *compiler) rule(key string, r ruleText) (rule, error) {
	p := c.at[key]
	pat, err := parsePattern(r.Host)
	if err != nil {
		if at, ok := c.at[key+".host"]; ok {
			p = at
		}
		return rule{}, c.fail(p, "a rule needs a host: "+err.Error(), "")
	}
	a, ok := action(r.Action)
	if !ok {
		if at, ok := c.at[key+".action"]; ok {
			p = at
		}
		return rule{}, c.fail(p, fmt.Sprintf("action = %q", r.Action), `use "allow", "block" or "ask"`)
	}
	out := rule{entry: entry{pattern: pat, action: a, source: c.source(p), reason: r.Reason}, private: r.Private}
	for _, m := range r.Methods {
		if m == "" || strings.ToUpper(m) != m {
			return rule{}, c.fail(c.at[key+".methods"], fmt.Sprintf("method %q", m), "methods are written in capitals (RFC 9110 §9.1)")
		}
		out.methods = append(out.methods, m)
	}
	for _, s := range r.Paths {
		g, err := parseGlob(s)
		if err != nil {
			return rule{}, c.fail(c.at[key+".paths"], err.Error(), "")
		}
		out.paths = append(out.paths, g)
	}
	return out, nil
}

func (c *compiler) upstream(key, host string, u upstreamText) (upstreamEntry, error) {
	p := c.at[key]
	pat, err := parsePattern(host)
	if err != nil {
		return upstreamEntry{}, c.fail(p, err.Error(), "")
	}
	if pat.all || pat.wild {
		return upstreamEntry{}, c.fail(p, "an upstream is for one host", "name it without *")
	}
	to, err := parsePattern(u.Address)
	if err != nil || to.port == 0 || to.wild || to.all {
		return upstreamEntry{}, c.fail(p, fmt.Sprintf("address = %q", u.Address), `write it as "host:port"`)
	}
	out := upstreamEntry{pattern: pat, Upstream: Upstream{Address: u.Address, CAFile: u.CA}}
	if u.CA != "" {
		if !filepath.IsAbs(u.CA) {
			return upstreamEntry{}, c.fail(p, fmt.Sprintf("ca = %q", u.CA), "the path must be absolute")
		}
		pem, err := os.ReadFile(u.CA)
		if err != nil {
			return upstreamEntry{}, c.fail(p, "ca: "+err.Error(), "")
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return upstreamEntry{}, c.fail(p, fmt.Sprintf("ca: no certificate in %s", u.CA), "it must hold PEM")
		}
	}
	return out, nil
}

func action(s string) (ledger.Decision, bool) {
	switch d := ledger.Decision(s); d {
	case ledger.Allow, ledger.Block, ledger.Ask:
		return d, true
	}
	return "", false
}

// place is where something stands in a file, 1-based.
type place struct{ line, column int }

// positions finds where each key and each element of an array stands: "network.allow", "network.allow[1]", "network.rule[0].host".
// The decoder tells places only of faults that it finds itself. A document that does not parse gives what was read until then.
func positions(data []byte) map[string]place {
	out := map[string]place{}
	counts := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	where := func(r unstable.Range) place {
		s := p.Shape(r)
		return place{s.Start.Line, s.Start.Column}
	}
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		var names []string
		var first place
		for it := e.Key(); it.Next(); {
			if names == nil {
				first = where(it.Node().Raw)
			}
			names = append(names, string(it.Node().Data))
		}
		key := strings.Join(names, ".")
		switch e.Kind {
		case unstable.Table:
			table = key
			out[key] = first
		case unstable.ArrayTable:
			table = fmt.Sprintf("%s[%d]", key, counts[key])
			counts[key]++
			out[table] = first
		case unstable.KeyValue:
			if table != "" {
				key = table + "." + key
			}
			out[key] = first
			if v := e.Value(); v.Kind == unstable.Array {
				i := 0
				for it := v.Children(); it.Next(); {
					if it.Node().Kind == unstable.Comment {
						continue
					}
					if r := it.Node().Raw; r.Length > 0 {
						out[fmt.Sprintf("%s[%d]", key, i)] = where(r)
					}
					i++
				}
			}
		}
	}
	return out
}
