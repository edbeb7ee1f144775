package ledger

import (
	"net/netip"
	"net/url"
	"slices"
	"time"

	"golang.org/x/net/publicsuffix"
)

// maxRefused bounds the hosts that are remembered for review; a storm of made-up names pushes out the oldest, not the person's memory.
const maxRefused = 2000

// Host is one refused host and port.
type Host struct {
	Host     string    `json:"host"`
	Port     int       `json:"port"`
	Count    int       `json:"count"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Method   string    `json:"method,omitempty"` // of the latest
	Path     string    `json:"path,omitempty"`   // of the latest that had one
	Process  string    `json:"process,omitempty"`
	Decision Decision  `json:"decision"` // of the latest
	Source   string    `json:"source,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// Group is what was refused below one registrable domain ("example.co.uk"; an address is its own group).
type Group struct {
	Domain string    `json:"domain"`
	Count  int       `json:"count"`
	Last   time.Time `json:"last"`
	Hosts  []Host    `json:"hosts"` // the latest first
}

type hostPort struct {
	host string
	port int
}

type refusals struct{ hosts map[hostPort]*Host }

func (r *refusals) add(e Entry) {
	if e.Host == "" {
		return
	}
	if r.hosts == nil {
		r.hosts = map[hostPort]*Host{}
	}
	key := hostPort{e.Host, e.Port}
	h := r.hosts[key]
	if h == nil {
		if len(r.hosts) >= maxRefused {
			r.dropOldest()
		}
		h = &Host{Host: e.Host, Port: e.Port, First: e.Time}
		r.hosts[key] = h
	}
	h.Count++
	h.Last, h.Decision, h.Source, h.Reason = e.Time, e.Decision, e.Source, e.Reason
	if e.Method != "" {
		h.Method = e.Method
	}
	if u, err := url.Parse(e.URL); err == nil && u.Path != "" {
		h.Path = u.Path
	}
	if e.Process != "" {
		h.Process = e.Process
	}
}

// dropOldest takes out an eighth at once, so that a storm does not pay for a whole look each time.
func (r *refusals) dropOldest() {
	all := make([]hostPort, 0, len(r.hosts))
	for k := range r.hosts {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b hostPort) int { return r.hosts[a].Last.Compare(r.hosts[b].Last) })
	for _, k := range all[:max(1, len(all)/8)] {
		delete(r.hosts, k)
	}
}

func (r *refusals) groups() []Group {
	by := map[string]*Group{}
	for _, h := range r.hosts {
		d := Domain(h.Host)
		g := by[d]
		if g == nil {
			g = &Group{Domain: d}
			by[d] = g
		}
		g.Count += h.Count
		g.Hosts = append(g.Hosts, *h)
		if h.Last.After(g.Last) {
			g.Last = h.Last
		}
	}
	out := make([]Group, 0, len(by))
	for _, g := range by {
		slices.SortFunc(g.Hosts, func(a, b Host) int { return b.Last.Compare(a.Last) })
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int { return b.Last.Compare(a.Last) })
	return out
}

// Domain returns the registrable domain of a host (public suffix list), or the host itself where there is none.
func Domain(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	if d, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return d
	}
	return host
}

// Filter keeps the hosts that keep accepts, and counts anew.
func Filter(groups []Group, keep func(Host) bool) []Group {
	out := make([]Group, 0, len(groups))
	for _, g := range groups {
		kept := Group{Domain: g.Domain}
		for _, h := range g.Hosts {
			if keep(h) {
				kept.Hosts = append(kept.Hosts, h)
				kept.Count += h.Count
				if h.Last.After(kept.Last) {
					kept.Last = h.Last
				}
			}
		}
		if kept.Hosts != nil {
			out = append(out, kept)
		}
	}
	return out
}
