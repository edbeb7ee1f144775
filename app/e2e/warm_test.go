package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capsid/app/session"
)

// steps are the names of what a session's start consisted of.
func steps(st session.Status) []string {
	var names []string
	for _, s := range st.Steps {
		names = append(names, s.Name)
	}
	return names
}

// warm awaits that something of a kind is kept, and returns its folder.
func (h *house) warm(kind string) string {
	h.t.Helper()
	pattern := filepath.Join(h.paths.Data, "warm", kind+"-*")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if kept, _ := filepath.Glob(pattern); len(kept) > 0 {
			return kept[0]
		}
	}
	h.t.Fatalf("no %s is kept", kind)
	return ""
}

// TestWarmStart: the first session of a size boots, later ones go on from what it left; and an agent that was at its prompt in a folder is there at once the next time, in a machine
// of its own.
func TestWarmStart(t *testing.T) {
	h := newHouse(t)
	ws := h.workspace("project")
	boots := func(st session.Status, want bool) {
		t.Helper()
		if got := slices.Contains(steps(st), "boot"); got != want {
			t.Errorf("%s: the steps are %q", st.Name, steps(st))
		}
	}
	first := h.start("first", "claude", ws, "--policy", h.policy)
	boots(first, true)
	template := h.warm("template")
	screen := h.look(first)
	screen.await("bypass permissions on")
	prompt := h.warm("prompt")

	second := h.start("second", "claude", ws, "--policy", h.policy)
	boots(second, false)
	if slices.Contains(steps(second), "set up") {
		t.Errorf("the agent was started anew: %q", steps(second))
	}
	own := map[string]bool{}
	for _, name := range []string{"first", "second"} {
		out := h.must("run", name, "--", "sh", "-c", "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id")
		for line := range strings.Lines(out) {
			if own[line] {
				t.Errorf("both machines have %q", line)
			}
			own[line] = true
		}
		if !own[name+"\n"] {
			t.Errorf("%s calls itself %q", name, out)
		}
	}
	s := h.look(second)
	s.say("good morning", "You said: good morning")
	// What the next agent would read has changed: its machine has booted already, but the agent starts.
	if err := os.WriteFile(filepath.Join(ws, "CLAUDE.md"), []byte("Be kind.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	third := h.start("third", "claude", ws, "--policy", h.policy)
	boots(third, false)
	if !slices.Contains(steps(third), "set up") {
		t.Errorf("an agent that had read something else goes on: %q", steps(third))
	}
	// Whoever wants it cold gets it cold.
	cold := h.start("cold", "shell", ws, "--cold")
	boots(cold, true)
	// What is damaged is not used, and not in the way.
	ram := filepath.Join(template, "ram")
	if err := os.Truncate(ram, 4096); err != nil {
		t.Fatal(err)
	}
	last := h.start("last", "shell", ws)
	boots(last, true)
	if h.warm("template") != template {
		t.Error("another template has come")
	}
	if info, err := os.Stat(ram); err != nil || info.Size() == 4096 {
		t.Errorf("the damaged template is still there: %v", err)
	}
	if _, err := os.Stat(prompt); err != nil {
		t.Errorf("the prompt is gone: %v", err)
	}
}
