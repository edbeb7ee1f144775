package traffic

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// markTime is how long a decided group stays in the list, so that a click can be seen to have worked and be undone.
const markTime = 30 * time.Second

// Mark is what a person decided about a group.
type Mark struct {
	Action string    // "allow" or "block"
	Scope  string    // "session", "project", "always"
	Hosts  []string  // patterns that were decided on
	At     time.Time // when it took effect; zero while it is being asked for
	Err    string    // why it did not
}

// Card is one group of the Blocked list.
type Card struct {
	ledger.Group
	Mark    *Mark // nil: nothing was decided here
	Private bool  // all of it is private, local or metadata: no click can open it
	Locked  bool  // all of it was refused by a rule of the organisation
}

// Blocked is what was refused and not decided on, with marks for what was decided in this window. The zero value is empty.
type Blocked struct {
	mu     sync.Mutex
	groups []ledger.Group
	marks  map[string]*marked
}

type marked struct {
	mark  Mark
	group ledger.Group // as it was when it was decided
	place int
}

// Set replaces what the supervisor says is pending.
func (b *Blocked) Set(groups []ledger.Group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.groups = groups
}

// Begin marks a group as being decided.
func (b *Blocked) Begin(domain string, m Mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.marks == nil {
		b.marks = map[string]*marked{}
	}
	place := 0
	group := ledger.Group{Domain: domain}
	if old := b.marks[domain]; old != nil {
		group, place = old.group, old.place
	}
	for i, g := range b.groups {
		if g.Domain == domain {
			group, place = g, i
		}
	}
	m.At, m.Err = time.Time{}, ""
	b.marks[domain] = &marked{m, group, place}
}

// End says how the decision that Begin announced went.
func (b *Blocked) End(domain string, at time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.marks[domain]
	if m == nil {
		return
	}
	if err != nil {
		m.mark.Err = err.Error()
		return
	}
	m.mark.At = at
}

// Cards returns the list, the latest first; a group that was decided keeps its place for a while.
func (b *Blocked) Cards(now time.Time) []Card {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Card
	pending := map[string]bool{}
	for _, g := range b.groups {
		pending[g.Domain] = true
		c := newCard(g)
		if m := b.marks[g.Domain]; m != nil {
			switch {
			case m.mark.At.IsZero() && m.mark.Err == "":
				c.Mark = copyMark(m.mark)
			case m.mark.Err != "":
				c.Mark = copyMark(m.mark)
			case !g.Last.After(m.mark.At):
				// Decided, and nothing of it was refused since: the supervisor has not told yet.
				c.Mark = copyMark(m.mark)
			default:
				delete(b.marks, g.Domain) // refused again, something else below this domain: ask again
			}
		}
		out = append(out, c)
	}
	for domain, m := range b.marks {
		if pending[domain] {
			continue
		}
		if m.mark.Err != "" || !m.mark.At.IsZero() && now.Sub(m.mark.At) > markTime {
			delete(b.marks, domain)
			continue
		}
		c := newCard(m.group)
		c.Mark = copyMark(m.mark)
		place := min(m.place, len(out))
		out = append(out[:place], append([]Card{c}, out[place:]...)...)
	}
	return out
}

// Count returns the number of groups that wait for a decision.
func (b *Blocked) Count(now time.Time) int {
	n := 0
	for _, c := range b.Cards(now) {
		if c.Mark == nil {
			n++
		}
	}
	return n
}

func copyMark(m Mark) *Mark { return &m }

func newCard(g ledger.Group) Card {
	c := Card{Group: g, Private: len(g.Hosts) > 0, Locked: len(g.Hosts) > 0}
	for _, h := range g.Hosts {
		c.Private = c.Private && policy.IsPrivateHost(h.Host)
		c.Locked = c.Locked && h.Decision == ledger.Block && strings.HasPrefix(h.Source, "corp.toml")
	}
	return c
}

// Patterns returns what to decide so that exactly the hosts of a group that a click can open are meant. A port other than HTTP's is named.
func Patterns(g ledger.Group, action string) []string {
	var out []string
	seen := map[string]bool{}
	for _, h := range g.Hosts {
		if action == "allow" && policy.IsPrivateHost(h.Host) {
			continue
		}
		p := Pattern(h)
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// Pattern returns the pattern for one refused host.
func Pattern(h ledger.Host) string {
	if h.Port == 0 || h.Port == 80 || h.Port == 443 {
		return h.Host
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(h.Port))
}

// Sample returns one refused request of a group, as a line.
func Sample(g ledger.Group) string {
	if len(g.Hosts) == 0 {
		return ""
	}
	h := g.Hosts[0]
	for _, o := range g.Hosts {
		if o.Path != "" && h.Path == "" {
			h = o
		}
	}
	line := Pattern(h)
	if h.Path != "" {
		line = h.Method + " " + line + h.Path
	} else if h.Port == 53 || h.Port == 0 {
		line = "name " + h.Host
	}
	return line
}
