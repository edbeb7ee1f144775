package ui

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capsid/app/session"
)

// TestSnapshotAndForkByHand keeps a shell in mid-thought, finds it in the tree, and forks it: both children run beside their parent, with what the shell had in mind.
func TestSnapshotAndForkByHand(t *testing.T) {
	bin := os.Getenv("CAPSID_BIN")
	if bin == "" || testing.Short() {
		t.Skip("CAPSID_BIN names no folder of built programs: make test sets it")
	}
	h := newHome(t, "[session]\nmemory = \"512MiB\"\ncpus = 1\n")
	shop := filepath.Join(h.dir, "shop")
	if err := os.Mkdir(shop, 0o755); err != nil {
		t.Fatal(err)
	}
	s := newScreen(t, h.env)
	s.open(filepath.Join(bin, "capsid-desktop"), h.dir)
	s.click("button", "New Shell")
	s.click("button", "shop")
	s.click("button", "Start")
	s.reads("shop$")
	s.write("thought=plum")
	s.key("Return")

	s.click("tab", "Snapshots")
	s.await("text", "No snapshot of shell-1 yet")
	s.shoot("snapshots-none")
	s.click("button", "Snapshot")
	s.await("text", "Snapshot of shell-1")
	s.shoot("snapshot-ask")
	s.key("Return")
	s.await("node", "snapshot snap-1: memory")
	here := s.await("node", "session shell-1: running")
	if !strings.HasSuffix(here.Name, hereText) {
		t.Errorf("the tree does not say where shell-1 is: %q", here.Name)
	}
	s.shoot("snapshot")

	s.key("ctrl+shift+d")
	s.await("text", "Fork shell-1")
	s.key("Up")
	s.shoot("fork-ask")
	s.key("Return")
	s.await("session", "shell-1-fork-1 running")
	s.await("session", "shell-1-fork-2 running")
	s.await("node", "session shell-1-fork-2: running")
	s.click("session", "shell-1-fork-1 running")
	s.until("the first child is in front", func() bool { return strings.HasPrefix(s.terminal(), "shell-1-fork-1\n") })
	s.reads("thought=plum")
	s.write("echo the $thought is ripe")
	s.key("Return")
	s.reads("the plum is ripe")
	s.click("session", "shell-1-fork-2 running")
	s.until("the second child is in front", func() bool { return strings.HasPrefix(s.terminal(), "shell-1-fork-2\n") })
	s.reads("thought=plum")
	s.write("echo the $thought is green")
	s.key("Return")
	s.reads("the plum is green")
	s.shoot("forks")

	list, err := h.store.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("%d sessions: %v", len(list), err)
	}
	for _, st := range list {
		if st.State != session.Running {
			t.Errorf("%s is %s %s", st.Name, st.State, st.Error)
		}
	}
	s.key("ctrl+shift+q")
	if err := s.ends(); err != nil {
		t.Errorf("the desktop ended with %v: %s", err, s.said)
	}
}
