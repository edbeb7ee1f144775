package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Canonical brings a host into the one form that all comparisons use: ASCII (punycode, UTS #46 mapping), lower case, no trailing dot;
// an IP literal in its canonical text, IPv4-mapped IPv6 as IPv4, without zone. A name whose last label is a number is refused:
// resolvers disagree about such names (RFC 3986 §7.4, the URL standard's "ends in a number").
func Canonical(host string) (string, error) {
	if h, ok := strings.CutPrefix(host, "["); ok {
		h, ok = strings.CutSuffix(h, "]")
		if !ok {
			return "", fmt.Errorf("host %q: missing ]", host)
		}
		host = h
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return "", fmt.Errorf("host %q: an address with a zone cannot be reached", host)
		}
		return a.Unmap().String(), nil
	}
	name, err := profile.ToASCII(strings.TrimSuffix(host, "."))
	if err != nil {
		return "", fmt.Errorf("host %q: %w", host, err)
	}
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("host %q: %w", host, err)
	}
	// A name that maps to something else the second time would be two names to two readers.
	if again, err := profile.ToASCII(name); err != nil || again != name {
		return "", fmt.Errorf("host %q has no stable ASCII form", host)
	}
	return name, nil
}

// profile maps as browsers do; underscores are let through since real hosts have them.
var profile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

func checkName(name string) error {
	if name == "" {
		return errors.New("empty name")
	}
	if len(name) > 253 { // RFC 1035 §2.3.4
		return errors.New("longer than 253 bytes")
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return errors.New("a label must have 1 to 63 bytes")
		}
		for _, c := range []byte(l) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return fmt.Errorf("%q cannot be in a host name", c)
			}
		}
	}
	last := labels[len(labels)-1]
	if _, err := strconv.ParseUint(last, 0, 64); err == nil || last[0] >= '0' && last[0] <= '9' && strings.Trim(last, "0123456789") == "" {
		return errors.New("a name that ends in a number is neither a name nor an address")
	}
	return nil
}

// pattern matches hosts: an exact name, "*.name" (any name below it, not itself), "*" (every name), an address or a prefix of addresses.
// A port after ":" restricts it to that port; without one it means the ports of HTTP, 80 and 443.
type pattern struct {
	text   string
	name   string // exact, or the part after "*."
	wild   bool
	all    bool
	prefix netip.Prefix
	port   int // 0: 80 and 443
}

func parsePattern(s string) (pattern, error) {
	p := pattern{text: s}
	host := s
	if pre, err := netip.ParsePrefix(s); err == nil {
		if pre != pre.Masked() {
			return p, fmt.Errorf("%q has bits beyond its prefix: write %q", s, pre.Masked())
		}
		p.prefix = pre
		return p, nil
	}
	if strings.Contains(s, "://") || strings.Contains(s, "/") {
		return p, fmt.Errorf("%q is not a host: leave out the scheme and the path", s)
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 && (strings.Count(s, ":") == 1 || strings.HasSuffix(s[:i], "]")) {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || n == 0 {
			return p, fmt.Errorf("%q: a port is a number from 1 to 65535", s)
		}
		p.port, host = int(n), s[:i]
	}
	if host == "*" {
		p.all = true
		return p, nil
	}
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		p.wild, host = true, rest
	}
	if strings.Contains(host, "*") {
		return p, fmt.Errorf("%q: * stands for whole names only, as in *.example.com", s)
	}
	c, err := Canonical(host)
	if err != nil {
		return p, err
	}
	if a, err := netip.ParseAddr(c); err == nil {
		if p.wild {
			return p, fmt.Errorf("%q: *. before an address has no meaning", s)
		}
		p.prefix = netip.PrefixFrom(a, a.BitLen())
		return p, nil
	}
	p.name = c
	return p, nil
}

// matches reports whether the canonical host is meant; port 0 means that any port will do.
func (p *pattern) matches(host string, port int) bool {
	if port != 0 {
		if p.port != 0 && p.port != port {
			return false
		}
		if p.port == 0 && port != 80 && port != 443 {
			return false
		}
	}
	return p.matchesHost(host)
}

func (p *pattern) matchesHost(host string) bool {
	a, err := netip.ParseAddr(host)
	if p.prefix.IsValid() {
		return err == nil && p.prefix.Contains(a)
	}
	if err == nil {
		return false // a pattern for names says nothing about addresses
	}
	switch {
	case p.all:
		return true
	case p.wild:
		return strings.HasSuffix(host, "."+p.name)
	}
	return host == p.name
}

// Private reports whether an address is one that no name may lead to unless a rule names the address itself: loopback, private, link-local
// (metadata services among them), shared (RFC 6598), multicast, unspecified, benchmarking, documentation and reserved ranges
// (IANA special-purpose registries), and IPv6 forms that carry an IPv4 address.
func Private(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return true
	}
	for _, p := range special {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:2::/48", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}
