package traffic

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"capsid/proxy/ledger"
)

func group(at time.Time, domain string, hosts ...string) ledger.Group {
	g := ledger.Group{Domain: domain, Count: len(hosts), Last: at}
	for _, h := range hosts {
		g.Hosts = append(g.Hosts, ledger.Host{Host: h, Port: 443, Count: 1, Last: at, Method: "GET", Path: "/p", Decision: ledger.Ask})
	}
	return g
}

func TestBlockedShowsThatAClickTookEffect(t *testing.T) {
	now := time.Unix(1e9, 0)
	var b Blocked
	a, c := group(now, "a.example", "x.a.example"), group(now, "c.example", "c.example")
	b.Set([]ledger.Group{a, c})
	if b.Count(now) != 2 {
		t.Fatalf("count %d", b.Count(now))
	}
	b.Begin("a.example", Mark{Action: "allow", Scope: "session", Hosts: []string{"x.a.example"}})
	if m := b.Cards(now)[0].Mark; m == nil || !m.At.IsZero() {
		t.Fatalf("while it is asked for: %+v", m)
	}
	b.End("a.example", now.Add(time.Second), nil)
	b.Set([]ledger.Group{c}) // the supervisor no longer has it pending
	cards := b.Cards(now.Add(2 * time.Second))
	if len(cards) != 2 || cards[0].Domain != "a.example" || cards[0].Mark == nil || cards[0].Mark.Action != "allow" || b.Count(now) != 1 {
		t.Fatalf("after the click: %+v", cards)
	}
	if cards = b.Cards(now.Add(time.Minute)); len(cards) != 1 || cards[0].Domain != "c.example" {
		t.Errorf("a decided group stays for ever: %+v", cards)
	}
}

func TestBlockedAsksAgainForWhatIsRefusedLater(t *testing.T) {
	now := time.Unix(1e9, 0)
	var b Blocked
	b.Set([]ledger.Group{group(now, "a.example", "x.a.example")})
	b.Begin("a.example", Mark{Action: "allow", Scope: "session"})
	b.End("a.example", now.Add(time.Second), nil)
	// Another host below the same domain.
	b.Set([]ledger.Group{group(now.Add(2*time.Second), "a.example", "y.a.example")})
	if cards := b.Cards(now.Add(3 * time.Second)); len(cards) != 1 || cards[0].Mark != nil {
		t.Errorf("what was refused after the decision does not ask: %+v", cards)
	}
}

func TestBlockedTellsWhyADecisionFailed(t *testing.T) {
	now := time.Unix(1e9, 0)
	var b Blocked
	b.Set([]ledger.Group{group(now, "a.example", "a.example")})
	b.Begin("a.example", Mark{Action: "allow", Scope: "always"})
	b.End("a.example", now, errors.New("locked by corp.toml"))
	if m := b.Cards(now)[0].Mark; m == nil || m.Err != "locked by corp.toml" {
		t.Errorf("mark %+v", m)
	}
}

func TestPrivateAddressesCannotBeOpened(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "127.0.0.1", "10.1.2.3", "localhost", "fd00::1", "x.localhost"} {
		g := group(time.Time{}, host, host)
		if c := newCard(g); !c.Private {
			t.Errorf("%s could be clicked open", host)
		}
		if p := Patterns(g, "allow"); len(p) != 0 {
			t.Errorf("allow would decide %v", p)
		}
		if p := Patterns(g, "block"); len(p) != 1 {
			t.Errorf("block would decide %v", p)
		}
	}
	if c := newCard(group(time.Time{}, "a.example", "a.example")); c.Private {
		t.Error("a public name is taken for a private one")
	}
}

func TestPatternsNameExactlyWhatWasSeen(t *testing.T) {
	g := group(time.Time{}, "a.example", "x.a.example", "y.a.example", "x.a.example")
	g.Hosts[1].Port = 8443
	if got := fmt.Sprint(Patterns(g, "allow")); got != "[x.a.example y.a.example:8443]" {
		t.Errorf("patterns %s", got)
	}
	if got := Sample(g); got != "GET x.a.example/p" {
		t.Errorf("sample %q", got)
	}
}

func TestLockedByTheOrganisation(t *testing.T) {
	g := group(time.Time{}, "a.example", "a.example")
	g.Hosts[0].Decision, g.Hosts[0].Source = ledger.Block, "corp.toml:3"
	if !newCard(g).Locked {
		t.Error("a click could not undo it, yet it is offered")
	}
}
