// Package proxy is the only way out of a machine: it ties the parts of this pillar together for one session.
//
// The machine's streams come from two listeners, one for connections (package mitm) and one for questions about names
// (package dns); the table of synthetic addresses joins them. What the policy says now holds for the next request, and a change ends
// what is under way and is not allowed any more.
package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"capsid/proxy/ca"
	"capsid/proxy/dns"
	"capsid/proxy/ledger"
	"capsid/proxy/mitm"
	"capsid/proxy/policy"
	"capsid/proxy/storm"
)

// Config is what a Proxy works with. All but the last group must be set.
type Config struct {
	Session string // its ID, for rows and for what refusals tell
	Policy  *policy.Engine
	CA      *ca.Authority
	Ledger  *ledger.Ledger

	Log      *slog.Logger   // nil: none
	Roots    *x509.CertPool // what upstreams are verified with; nil: the host's trust store
	Resolver *net.Resolver  // nil: the host's
	Names    []dns.Binding  // of the machine that this one goes on from; nil: it begins without
}

// Proxy serves one session. It does not own what its Config holds.
type Proxy struct {
	table   *dns.Table
	names   *dns.Server
	egress  *mitm.Server
	refused *storm.Recorder
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

// New returns a proxy that serves nothing yet. Close must be called.
func New(cfg Config) (*Proxy, error) {
	if cfg.Policy == nil || cfg.CA == nil || cfg.Ledger == nil || cfg.Session == "" {
		return nil, errors.New("proxy: the session, its policy, authority and ledger are needed")
	}
	table := dns.NewTable(0)
	if err := table.Restore(cfg.Names); err != nil {
		return nil, fmt.Errorf("proxy: names: %w", err)
	}
	refused := storm.New(storm.Config{Add: cfg.Ledger.Add})
	p := &Proxy{table: table, refused: refused, done: make(chan struct{})}
	p.names = dns.New(dns.Config{
		Session: cfg.Session,
		Table:   table,
		Name:    func(host string) policy.Verdict { return cfg.Policy.Current().Name(host) },
		Add:     refused.Add,
		Log:     cfg.Log,
	})
	p.egress = mitm.New(mitm.Config{
		Session:   cfg.Session,
		Leaf:      cfg.CA.Leaf,
		Hold:      table.Hold,
		Synthetic: func(a netip.Addr) bool { return dns.Range.Contains(a) },
		Connect:   func(host string, port int) policy.Verdict { return cfg.Policy.Current().Connect(host, port) },
		Request:   func(r policy.Request) policy.Verdict { return cfg.Policy.Current().Request(r) },
		Upstream:  func(host string, port int) (policy.Upstream, bool) { return cfg.Policy.Current().Upstream(host, port) },
		Locked:    func() bool { return cfg.Policy.Current().Locked() },
		Rows:      cfg.Ledger,
		Refused:   refused,
		Log:       cfg.Log,
		Roots:     cfg.Roots,
		Resolver:  cfg.Resolver,
	})
	p.wg.Go(func() {
		for {
			// Taken before the look, so that no change falls in between.
			changed := cfg.Policy.Changed()
			p.egress.Recheck()
			select {
			case <-changed:
			case <-p.done:
				return
			}
		}
	})
	return p, nil
}

// Names are the names that the machine has addresses of, for Config of another.
func (p *Proxy) Names() []dns.Binding { return p.table.Bindings() }

// ServeEgress carries the connections whose streams l accepts (link.Egress), until Close or until l fails. It closes l.
func (p *Proxy) ServeEgress(l net.Listener) error { return p.egress.Serve(l) }

// ServeDNS answers on the streams that l accepts (link.DNS), until Close or until l fails. It closes l.
func (p *Proxy) ServeDNS(l net.Listener) error { return p.names.Serve(l) }

// Close ends everything and returns when nothing runs any more. The ledger is still needed until then.
func (p *Proxy) Close() error {
	p.once.Do(func() { close(p.done) })
	err := errors.Join(p.names.Close(), p.egress.Close())
	p.wg.Wait()
	p.refused.Close()
	return err
}
