package image

import (
	"strings"
	"testing"
)

func TestLockFile(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		packages, err := Packages(arch)
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, p := range packages {
			have[p.Name] = true
			for at := range p.Links {
				if !strings.HasPrefix(at, "/usr/local/bin/") && !strings.HasPrefix(at, p.Into+"/") {
					t.Errorf("%s: a link at %s", p.Name, at)
				}
			}
		}
		for _, name := range []string{"node", "npm", "claude", "codex", "gemini"} {
			if !have[name] {
				t.Errorf("%s: no %s", arch, name)
			}
		}
	}
}

func TestParseLock(t *testing.T) {
	const sum = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
	good := "[[package]]\nname = \"a\"\nnpm = \"@x/a\"\nversion = \"1.2.3-linux-x64\"\nintegrity = \"" + sum + "\"\ninto = \"/opt/a\"\n"
	if p, err := parseLock([]byte(good), "amd64"); err != nil || len(p) != 1 || p[0].version() != "1.2.3" {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, test := range []struct{ name, from, to, says string }{
		{"unknown key", "into =", "onto =", `6:1: unknown key "package.onto"`},
		{"not TOML", "into =", "into", "6:"},
		{"a range", "1.2.3-linux-x64", "^1.2.3", "exact version"},
		{"a tag", "1.2.3-linux-x64", "latest", "exact version"},
		{"a URL", "@x/a", "https://x.example/a.tgz", "not the name"},
		{"a folder", "@x/a", "../a", "not the name"},
		{"an option", "@x/a", "--registry", "not the name"},
		{"weak digest", "sha512-", "sha1-", "not a SHA-512"},
		{"short digest", "z4PhNX7vuL3xVChQ", "", "not a SHA-512"},
		{"outside", "/opt/a", "/opt/../../a", "not a folder"},
		{"twice", good, good + good, "twice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseLock([]byte(strings.Replace(good, test.from, test.to, 1)), "amd64")
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want one with %q", err, test.says)
			}
		})
	}
}

func TestWants(t *testing.T) {
	for _, test := range []struct {
		keep, drop []string
		name       string
		want       bool
	}{
		{nil, nil, "a/b", true},
		{[]string{"bin/*"}, nil, "bin/x", true},
		{[]string{"bin/*"}, nil, "bin/x/y", false},
		{[]string{"bin/*"}, nil, "lib/x", false},
		{nil, []string{"docs/**"}, "docs/a/b", false},
		{nil, []string{"docs/**"}, "docs", true},
		{nil, []string{"docs/**"}, "docs2/a", true},
		{nil, []string{"*/docs/**"}, "a/docs/b", false},
		{[]string{"a/**"}, []string{"a/*.sb"}, "a/x.sb", false},
	} {
		if got := (Package{Keep: test.keep, Drop: test.drop}).wants(test.name); got != test.want {
			t.Errorf("keep %q, drop %q: wants(%q) = %v", test.keep, test.drop, test.name, got)
		}
	}
}
