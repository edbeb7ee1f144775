package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capsid/proxy/ledger"
)

// files writes policy files and returns their paths.
func files(t *testing.T, corp, session, user string) Paths {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	return Paths{
		Corp: write("corp.toml", corp), Session: write("session.toml", session), User: write("user.toml", user),
		SessionDecisions: filepath.Join(dir, "s", "decisions.toml"), Decisions: filepath.Join(dir, "decisions.toml"), Project: "/home/p",
		Agent: []Grant{{"api.agent.example", "agent.toml:3"}},
	}
}

func load(t *testing.T, p Paths) *Policy {
	t.Helper()
	out, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDecisions(t *testing.T) {
	p := files(t, `
[network]
block = ["*.evil.example", "bad.example"]
allow = ["corp.example"]
`, `
[network]
allow = ["only-here.example:8443"]
`, `
[network]
default = "ask"
allow = ["*.wild.example", "exact.example", "bad.example", "10.1.2.3:80", "user-blocked.example", "Bücher.example", "10.9.0.0/16"]
block = ["user-blocked.example"]

[[network.rule]]
host = "github.example"
methods = ["GET", "HEAD"]
paths = ["/acme/**"]
action = "allow"

[[network.rule]]
host = "github.example"
action = "block"
reason = "only acme"

[[network.rule]]
host = "inside.example"
action = "allow"
private = true
`)
	for i, d := range []Decision{
		{Host: "clicked.example", Action: "allow", Scope: ScopeAlways, From: "window"},
		{Host: "mine.example", Action: "allow", Scope: ScopeProject, Project: "/home/p"},
		{Host: "theirs.example", Action: "allow", Scope: ScopeProject, Project: "/home/q"},
		{Host: "clicked.example", Action: "block", Scope: ScopeProject, Project: "/home/p"},
		{Host: "user-blocked.example", Action: "allow", Scope: ScopeAlways},
		{Host: "exact.example", Action: "block", Scope: ScopeAlways},
	} {
		d.Time = time.Unix(int64(i), 0)
		if err := Decide(p.Decisions, d); err != nil {
			t.Fatal(err)
		}
	}
	if err := Decide(p.SessionDecisions, Decision{Host: "exact.example", Action: "allow", Scope: ScopeSession}); err != nil {
		t.Fatal(err)
	}
	pol := load(t, p)
	for _, c := range []struct {
		request Request
		want    ledger.Decision
		source  string
		private bool
	}{
		{Request{"nobody.example", 443, "GET", "/"}, ledger.Ask, "user.toml:3", false},
		{Request{"a.evil.example", 443, "GET", "/"}, ledger.Block, "corp.toml:3", false},
		{Request{"evil.example", 443, "GET", "/"}, ledger.Ask, "user.toml:3", false},
		{Request{"bad.example", 443, "GET", "/"}, ledger.Block, "corp.toml:3", false},
		{Request{"bad.example", 9999, "GET", "/"}, ledger.Block, "corp.toml:3", false},
		{Request{"corp.example", 443, "GET", "/"}, ledger.Allow, "corp.toml:4", false},
		{Request{"corp.example", 22, "GET", "/"}, ledger.Ask, "user.toml:3", false},
		{Request{"only-here.example", 8443, "GET", "/"}, ledger.Allow, "session.toml:3", false},
		{Request{"only-here.example", 443, "GET", "/"}, ledger.Ask, "user.toml:3", false},
		{Request{"x.y.wild.example", 80, "GET", "/"}, ledger.Allow, "user.toml:4", false},
		{Request{"wild.example", 80, "GET", "/"}, ledger.Ask, "user.toml:3", false},
		{Request{"EXACT.example.", 443, "GET", "/"}, ledger.Allow, "decisions.toml:3", false},
		{Request{"user-blocked.example", 443, "GET", "/"}, ledger.Block, "user.toml:5", false},
		{Request{"xn--bcher-kva.example", 443, "GET", "/"}, ledger.Allow, "user.toml:4", false},
		{Request{"BÜCHER.example", 443, "GET", "/"}, ledger.Allow, "user.toml:4", false},
		{Request{"10.1.2.3", 80, "GET", "/"}, ledger.Allow, "user.toml:4", true},
		{Request{"10.1.2.3", 443, "GET", "/"}, ledger.Block, "built in", false},
		{Request{"10.9.8.7", 443, "GET", "/"}, ledger.Allow, "user.toml:4", true},
		{Request{"127.0.0.1", 80, "GET", "/"}, ledger.Block, "built in", false},
		{Request{"::ffff:127.0.0.1", 80, "GET", "/"}, ledger.Block, "built in", false},
		{Request{"169.254.169.254", 80, "GET", "/"}, ledger.Block, "built in", false},
		{Request{"8.8.8.8", 443, "GET", "/"}, ledger.Ask, "user.toml:3", false},
		{Request{"0x7f.1", 443, "GET", "/"}, ledger.Block, "built in", false},
		{Request{"2130706433", 443, "GET", "/"}, ledger.Block, "built in", false},
		{Request{"api.agent.example", 443, "GET", "/"}, ledger.Allow, "agent.toml:3", false},
		{Request{"github.example", 443, "GET", "/acme/x/y"}, ledger.Allow, "user.toml:7", false},
		{Request{"github.example", 443, "POST", "/acme/x"}, ledger.Block, "user.toml:13", false},
		{Request{"github.example", 443, "GET", "/other"}, ledger.Block, "user.toml:13", false},
		{Request{"github.example", 443, "GET", "/acme/../other"}, ledger.Block, "user.toml:13", false},
		{Request{"inside.example", 443, "GET", "/"}, ledger.Allow, "user.toml:18", true},
		{Request{"mine.example", 443, "GET", "/"}, ledger.Allow, "decisions.toml:10", false},
		{Request{"theirs.example", 443, "GET", "/"}, ledger.Ask, "user.toml:3", false},
		{Request{"clicked.example", 443, "GET", "/"}, ledger.Block, "decisions.toml", false},
	} {
		v := pol.Request(c.request)
		if v.Decision != c.want || !strings.HasPrefix(v.Source, c.source[:strings.Index(c.source+":", ":")]) || v.PrivateOK != c.private {
			t.Errorf("%+v: %+v, want %s by %s, private %v", c.request, v, c.want, c.source, c.private)
		}
		if strings.HasPrefix(c.source, "user") && v.Source != c.source {
			t.Errorf("%+v: decided at %s, want %s", c.request, v.Source, c.source)
		}
	}
	if v := pol.Connect("github.example", 443); v.Decision != ledger.Allow {
		t.Errorf("connect where some requests are allowed: %+v", v)
	}
	if v := pol.Name("nobody.example"); v.Decision != ledger.Ask {
		t.Errorf("unlisted name: %+v", v)
	}
}

func TestFaultsHaveAPlace(t *testing.T) {
	for _, c := range []struct{ name, corp, user, want string }{
		{"unknown key", "", "[network]\nalow = [\"a\"]\n", `user.toml:2:1: unknown key "network.alow"`},
		{"unknown table", "", "[netwrk]\nallow = []\n", `user.toml:1:2: unknown key "netwrk"`},
		{"syntax", "", "[network]\nallow = [\n", "user.toml:"},
		{"type", "", "[network]\nallow = 3\n", "user.toml:2:9: "},
		{"bad default", "", "[network]\ndefault = \"maybe\"\n", `user.toml:2:1: default = "maybe" (use "ask", "allow" or "block")`},
		{"url for host", "", "[network]\nallow = [\"ok.example\",\n  \"https://x.example/\"]\n", `user.toml:3:3: "https://x.example/" is not a host`},
		{"star inside", "", "[network]\nallow = [\"a.*.example\"]\n", "* stands for whole names only"},
		{"bad port", "", "[network]\nallow = [\"a.example:99999\"]\n", "a port is a number"},
		{"rule without action", "", "[[network.rule]]\nhost = \"a.example\"\n", `user.toml:1:3: action = ""`},
		{"rule with a bad path", "", "[[network.rule]]\nhost = \"a.example\"\naction = \"allow\"\npaths = [\"acme\"]\n", "user.toml:4:1: path"},
		{"upstream without port", "", "[network.upstream.\"a.example\"]\naddress = \"127.0.0.1\"\n", `write it as "host:port"`},
		{"upstream with a missing ca", "", "[network.upstream.\"a.example\"]\naddress = \"127.0.0.1:1\"\nca = \"/nonexistent.pem\"\n", "no such file"},
		{"cpus", "", "[session]\ncpus = 99\n", "user.toml:2:1: cpus = 99 (a machine has 1 to 16)"},
		{"memory", "", "[session]\nmemory = \"lots\"\n", "user.toml:2:1: size"},
		{"backend", "", "[session]\nbackend = \"xen\"\n", `user.toml:2:1: backend = "xen" (use "auto", "kvm" or "soft")`},
		{"backend of an organisation", "[session]\n\nbackend = \"\"\n", "", `corp.toml:3:1: backend = ""`},
		{"lock by a person", "", "[network]\nlock = true\n", "lock belongs in corp.toml alone"},
		{"locked", "[network]\nlock = true\n", "[session]\ncpus = 2\n[network]\nallow = [\"a.example\"]\n", "user.toml:3:2: [network] is locked by"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(files(t, c.corp, "", c.user))
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestLockSilencesClicks(t *testing.T) {
	p := files(t, "[network]\nlock = true\nallow = [\"corp.example\"]\n", "", "")
	if err := Decide(p.Decisions, Decision{Host: "clicked.example", Action: "allow", Scope: ScopeAlways}); err != nil {
		t.Fatal(err)
	}
	pol := load(t, p)
	for host, want := range map[string]ledger.Decision{"corp.example": ledger.Allow, "clicked.example": ledger.Ask, "api.agent.example": ledger.Ask} {
		if v := pol.Connect(host, 443); v.Decision != want {
			t.Errorf("%s: %+v, want %s", host, v, want)
		}
	}
}

func TestNoClickOpensPrivateAddresses(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.0.0.1:8080", "[::1]:80", "169.254.169.254", "10.0.0.1", "localhost", "x.localhost", "8.8.8.0/24", "*", "fd00:ec2::254", "::ffff:10.0.0.1"} {
		if err := (Decision{Host: host, Action: "allow", Scope: ScopeAlways}).Validate(); err == nil {
			t.Errorf("%s could be opened by a click", host)
		}
	}
}

// The defaults of sessions come key by key from the strongest file that has them.
func TestBackend(t *testing.T) {
	const kvm, soft, auto, none = "[session]\nbackend = \"kvm\"\n", "[session]\nbackend = \"soft\"\n", "[session]\nbackend = \"auto\"\n", ""
	for _, c := range []struct{ corp, session, user, want string }{
		{none, none, none, ""}, {none, none, kvm, "kvm"}, {none, soft, kvm, "soft"}, {soft, kvm, kvm, "soft"}, {auto, none, kvm, "auto"},
	} {
		if got := load(t, files(t, c.corp, c.session, c.user)).Session().Backend; got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestUpstreamAndSizes(t *testing.T) {
	pol := load(t, files(t, "[session]\ncpus = 1\n", "", `
[network.upstream."api.example"]
address = "127.0.0.1:8443"
[session]
cpus = 4
memory = "4GiB"
`))
	if u, ok := pol.Upstream("api.example", 443); !ok || u.Address != "127.0.0.1:8443" {
		t.Errorf("upstream %+v %v", u, ok)
	}
	if _, ok := pol.Upstream("api.example", 22); ok {
		t.Error("an upstream without a port is for the ports of HTTP")
	}
	if s := pol.Session(); s.CPUs != 1 || s.Memory != 4<<30 {
		t.Errorf("sizes %+v", s)
	}
}

func TestReloadKeepsTheOldPolicyOnAFault(t *testing.T) {
	p := files(t, "", "", "[network]\nallow = [\"a.example\"]\n")
	e, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reports := make(chan error, 16)
	ended := make(chan error, 1)
	go func() { ended <- e.Watch(ctx, func(err error) { reports <- err }) }()
	if err := <-reports; err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		// As editors do: a new file renamed over the old one.
		if err := replace(p.User, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	write("[network]\nalow = []\n")
	if err := <-reports; err == nil {
		t.Fatal("a fault was not reported")
	}
	if v := e.Current().Connect("a.example", 443); v.Decision != ledger.Allow {
		t.Errorf("the old policy is gone: %+v", v)
	}
	write("[network]\nallow = [\"b.example\"]\n")
	if err := <-reports; err != nil {
		t.Fatal(err)
	}
	if v := e.Current().Connect("b.example", 443); v.Decision != ledger.Allow {
		t.Errorf("the new policy is not in force: %+v", v)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzPolicyFile(f *testing.F) {
	f.Add([]byte("[network]\nallow = [\"*.a.example:80\", \"10.0.0.0/8\"]\n[[network.rule]]\nhost=\"x\"\naction=\"ask\"\n"))
	f.Add([]byte("a.b.c = {d = [1, [2]]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLayer("f.toml", data, true)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%T %v", err, err)
		}
		if err == nil && l == nil {
			t.Error("neither a layer nor an error")
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"a.example", "[::1]", "ＥＸＡＭＰＬＥ.com", "127.1", "xn--a", "a..b", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Canonical(s)
		if err != nil {
			return
		}
		if again, err := Canonical(c); err != nil || again != c {
			t.Errorf("%q → %q → %q, %v", s, c, again, err)
		}
	})
}
