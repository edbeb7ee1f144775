package assets

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"capsid/guest/image"
	"capsid/proxy/policy"
)

func load(t *testing.T, dir string) map[string]Agent {
	t.Helper()
	list, err := Agents(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Agent{}
	for _, a := range list {
		out[a.Name] = a
	}
	return out
}

func TestOurAgents(t *testing.T) {
	agents := load(t, "")
	for _, name := range []string{"claude", "codex", "gemini", "shell"} {
		if agents[name].Title == "" {
			t.Errorf("no %s", name)
		}
	}
	versions := map[string]bool{}
	for _, arch := range []string{"amd64", "arm64"} {
		packages, err := image.Packages(arch)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packages {
			versions[p.Name] = true
		}
	}
	for _, a := range agents {
		for _, p := range a.Packages {
			if !versions[p] {
				t.Errorf("%s is made of %s, which the image's lock file does not have", a.Name, p)
			}
		}
		for _, g := range a.Grants() {
			if !strings.HasPrefix(g.Source, a.Name+".toml:") || !lineHas(t, a.Name, g) {
				t.Errorf("%s: grant of %s is said to stand at %s", a.Name, g.Host, g.Source)
			}
		}
		if !strings.Contains(string(a.IconSVG()), "<svg") {
			t.Errorf("%s: no icon", a.Name)
		}
	}
}

func lineHas(t *testing.T, name string, g policy.Grant) bool {
	t.Helper()
	data, err := agentFiles.ReadFile("agents/" + name + ".toml")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		if strings.Contains(line, `"`+g.Host+`"`) && strings.HasSuffix(g.Source, ".toml:"+itoa(i+1)) {
			return true
		}
	}
	return false
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// A folder may have any name; what is seeded must still be JSON and TOML.
func TestSeed(t *testing.T) {
	for _, workspace := range []string{"/home/me/project", `/home/me/it's "odd"\ ü`} {
		for _, a := range load(t, "") {
			files, err := a.Seed(Place{Workspace: workspace, Home: "/home/me"})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				var v any
				switch filepath.Ext(f.Path) {
				case ".json":
					err = json.Unmarshal(f.Content, &v)
				case ".toml":
					err = toml.Unmarshal(f.Content, &v)
				}
				if err != nil {
					t.Errorf("%s with workspace %q: %s: %v", a.Name, workspace, f.Path, err)
				}
				if !strings.HasPrefix(f.Path, "~/") || f.Mode&^0o666 != 0 {
					t.Errorf("%s: %s, mode %o", a.Name, f.Path, f.Mode)
				}
				if m, ok := v.(map[string]any); ok && m["projects"] != nil {
					if _, ok := m["projects"].(map[string]any)[workspace]; !ok {
						t.Errorf("%s: %s does not trust %q", a.Name, f.Path, workspace)
					}
				}
			}
		}
	}
}

// The answer to Claude's question about a key names the key by its end.
func TestClaudeKnowsItsKey(t *testing.T) {
	a := load(t, "")["claude"]
	files, err := a.Seed(Place{Workspace: "/w", Home: "/h"})
	if err != nil {
		t.Fatal(err)
	}
	var seeded struct {
		CustomAPIKeyResponses struct{ Approved []string }
	}
	if err := json.Unmarshal(files[0].Content, &seeded); err != nil {
		t.Fatal(err)
	}
	key := a.Env["ANTHROPIC_API_KEY"]
	if got := seeded.CustomAPIKeyResponses.Approved; len(got) != 1 || got[0] != key[len(key)-20:] {
		t.Errorf("approved %q, key %q", got, key)
	}
}

func TestCommandLine(t *testing.T) {
	a := Agent{Command: []string{"x"}, Autonomous: []string{"--go"}, Env: map[string]string{"B": "2", "A": "1"}}
	if got := strings.Join(a.CommandLine(false), " "); got != "x" {
		t.Errorf("asking: %q", got)
	}
	if got := strings.Join(a.CommandLine(true), " "); got != "x --go" {
		t.Errorf("autonomous: %q", got)
	}
	if got := strings.Join(a.Environ(), " "); got != "A=1 B=2" {
		t.Errorf("environment: %q", got)
	}
}

func TestUserAgents(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("aider.toml", "title = \"Aider\"\ncommand = [\"aider\"]\nhosts = [\"api.example\",\n\n  '*.b.example']\n")
	write("claude.toml", "title = \"My Claude\"\ncommand = [\"claude\", \"--mine\"]\n")
	write("notes.txt", "not an agent")
	write(".hidden.toml", "not = 1")
	agents := load(t, dir)
	if got := agents["claude"].Title; got != "My Claude" {
		t.Errorf("claude is %q", got)
	}
	g := agents["aider"].Grants()
	if len(g) != 2 || g[0] != (policy.Grant{Host: "api.example", Source: "aider.toml:3"}) || g[1] != (policy.Grant{Host: "*.b.example", Source: "aider.toml:5"}) {
		t.Errorf("grants: %v", g)
	}
	if list, err := Agents(filepath.Join(dir, "none")); err != nil || len(list) != 4 {
		t.Errorf("a folder that is not there: %d agents, %v", len(list), err)
	}
}

func TestFaults(t *testing.T) {
	const good = "title = \"A\"\ncommand = [\"a\"]\n"
	for _, test := range []struct {
		name, file, text string
		line             int
		says             string
	}{
		{"unknown key", "a.toml", good + "comand = 1\n", 3, `"comand"`},
		{"unknown key of a file", "a.toml", good + "[[file]]\npath = \"~/x\"\nmod = \"0600\"\n", 5, `"file.mod"`},
		{"not TOML", "a.toml", good + "hosts = [\n", 3, ""},
		{"wrong type", "a.toml", good + "hosts = \"x\"\n", 3, ""},
		{"no title", "a.toml", "command = [\"a\"]\n", 0, "title"},
		{"no command", "a.toml", "title = \"A\"\n", 0, "command"},
		{"bad host", "a.toml", good + "hosts = [\n\"ok.example\",\n\"http://x\"]\n", 5, "http://x"},
		{"bad name", "A b.toml", good, 0, "no name"},
		{"file outside", "a.toml", good + "[[file]]\npath = \"~/../x\"\n", 0, "path"},
		{"relative file", "a.toml", good + "[[file]]\npath = \"x\"\n", 0, "path"},
		{"bad mode", "a.toml", good + "[[file]]\npath = \"~/x\"\nmode = \"4755\"\n", 0, "mode"},
		{"template", "a.toml", good + "[[file]]\npath = \"~/x\"\ncontent = \"{{.Nothing}}\"\n", 0, "Nothing"},
		{"variable", "a.toml", good + "[env]\n\"A=B\" = \"c\"\n", 0, "A=B"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, test.file), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Agents(dir)
			var fault *policy.Error
			if !errors.As(err, &fault) {
				t.Fatalf("error %v, want a *policy.Error", err)
			}
			if fault.File != filepath.Join(dir, test.file) || fault.Line != test.line || !strings.Contains(fault.Message, test.says) {
				t.Errorf("%v; want line %d and %q", fault, test.line, test.says)
			}
		})
	}
}

func FuzzAgent(f *testing.F) {
	f.Add([]byte("title = \"A\"\ncommand = [\"a\"]\nhosts = [\"x.example\"]\n[[file]]\npath = \"~/x\"\ncontent = \"{{quote .Home}}\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAgent("a.toml", "a.toml", data)
		if err == nil && len(a.Grants()) != len(a.Hosts) {
			t.Fatal("a host without a place")
		}
	})
}

// The example is a policy that loads.
func TestUserExample(t *testing.T) {
	name := filepath.Join(t.TempDir(), "user.toml")
	if err := os.WriteFile(name, UserExample(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(policy.Paths{User: name}); err != nil {
		t.Error(err)
	}
	if len(Icon()) == 0 {
		t.Error("no icon")
	}
}
