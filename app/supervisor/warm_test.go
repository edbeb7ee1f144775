package supervisor

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/assets"
	"capsid/proxy/ca"
	"capsid/vmm"
)

type fakeBackend struct{ vmm.Backend }

func (fakeBackend) Name() string { return "fake" }

// What an agent at its prompt was made from tells it from every other.
func TestPromptName(t *testing.T) {
	dir := t.TempDir()
	agents, err := assets.Agents("")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Open(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(filepath.Join(work, ".claude"), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh := func() *Supervisor {
		s := &Supervisor{
			cfg: Config{Version: "1", Paths: session.Paths{Config: filepath.Join(dir, "config"), Corp: filepath.Join(dir, "corp.toml"), Data: dir}}, log: slog.New(slog.DiscardHandler),
			backend: fakeBackend{}, authority: authority,
			sess: session.Session{ID: "00000001", Name: "claude-1", Agent: "claude", Image: "image", Workspace: work, Access: session.ReadWrite, CPUs: 2, Memory: 1 << 30, Autonomous: true},
		}
		for _, a := range agents {
			if a.Name == s.sess.Agent {
				s.agent = a
			}
		}
		return s
	}
	name := func(s *Supervisor) string {
		t.Helper()
		n, err := s.promptName()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	write := func(path string) func(*Supervisor) {
		return func(*Supervisor) {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(time.Now().String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := name(fresh())
	same := fresh()
	same.sess.ID, same.sess.Name = "00000002", "claude-2"
	if got := name(same); got != want {
		t.Error("another session of the same kind has another name")
	}
	write(filepath.Join(work, "main.go"))(nil)
	if got := name(fresh()); got != want {
		t.Error("a file that agents do not read at first changes the name")
	}
	for what, change := range map[string]func(*Supervisor){
		"the program":       func(s *Supervisor) { s.cfg.Version = "2" },
		"the image":         func(s *Supervisor) { s.sess.Image = "other" },
		"the processors":    func(s *Supervisor) { s.sess.CPUs = 3 },
		"the memory":        func(s *Supervisor) { s.sess.Memory *= 2 },
		"who is asked":      func(s *Supervisor) { s.sess.Autonomous = false },
		"the access":        func(s *Supervisor) { s.sess.Access = session.ReadOnly },
		"the folder":        func(s *Supervisor) { s.sess.Workspace = dir },
		"the agent":         func(s *Supervisor) { s.agent.Command = []string{"other"} },
		"the environment":   func(s *Supervisor) { s.agent.Env = map[string]string{"A": "b"} },
		"user.toml":         write(filepath.Join(dir, "config", "user.toml")),
		"corp.toml":         write(filepath.Join(dir, "corp.toml")),
		"CLAUDE.md":         write(filepath.Join(work, "CLAUDE.md")),
		"deep in .claude":   write(filepath.Join(work, ".claude", "a", "b.json")),
		"the git branch":    write(filepath.Join(work, ".git", "HEAD")),
		"decisions.toml":    write(filepath.Join(dir, "config", "decisions.toml")),
		"another authority": func(s *Supervisor) { s.authority, err = ca.Open(filepath.Join(dir, "ca2")) },
	} {
		before := name(fresh())
		s := fresh()
		change(s)
		if got := name(s); got == before {
			t.Errorf("%s does not change the name", what)
		}
	}
	for what, change := range map[string]func(*Supervisor){
		"a shell":   func(s *Supervisor) { s.sess.Agent = "shell" },
		"no folder": func(s *Supervisor) { s.sess.Workspace = "" },
	} {
		s := fresh()
		change(s)
		if got := name(s); got != "" {
			t.Errorf("%s has a prompt: %s", what, got)
		}
	}
	// A folder with too much of it has none, and the session starts all the same.
	for i := range maxConfig + 1 {
		if err := os.WriteFile(filepath.Join(work, ".claude", "f"+time.Unix(int64(i), 0).Format("150405")+string(rune('a'+i%26))), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := fresh().promptName(); err == nil {
		t.Errorf("named %s", n)
	}
	if s := fresh(); s.openWarm(context.Background()) != nil {
		t.Error("something is warm in an empty store")
	}
}
