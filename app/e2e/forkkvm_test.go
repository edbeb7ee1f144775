package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"capsid/app/session"
	"capsid/guest/image"
	"capsid/guest/verified"
)

// TestForkOnKVM is what TestForkGoesOn is about, on a machine of our own VMM, as far as it can be with one machine at a time: that is what the lab has room for.
func TestForkOnKVM(t *testing.T) {
	if os.Getenv("CAPSID_LAB") == "" {
		t.Skip("make lab runs it")
	}
	h := newHouse(t)
	out := newHolder(t)
	ws := h.workspace("project")
	h.trustImage()
	st := h.start("parent", "shell", ws, "--policy", h.write("fork.toml", out.policy()), "--cpus", "2", "--memory", "1GiB", "--cold")
	if st.Backend != "kvm" {
		t.Fatalf("the session runs on %s (%s)", st.Backend, st.Backing)
	}
	p := h.steady(st, ws)
	before := p.identity()
	n := p.count()
	h.must("snapshot", "parent", "first")
	p.goesOn(n)
	h.must("restore", "parent", "first", "--force", "--detach")

	p = p.in(h)
	p.goesOn(n)
	p.counted("parent")
	if got := p.ask("held 1"); got != "ConnectionResetError, then again by parent" {
		t.Errorf("restored, what was held ended so: %s", got)
	}
	p.ask("note restored")
	h.must("kill", "parent")

	children := h.fork("parent", "child", 1, "--at", "first")
	c := p.of(h, children[0])
	if c.Backend != "kvm" || c.Parent == nil || *c.Parent != (session.SnapshotRef{Session: st.ID, Snapshot: "first"}) {
		t.Errorf("the child runs on %s, its parent is %v", c.Backend, c.Parent)
	}
	c.goesOn(n)
	c.counted("parent", "child")
	if got := c.ask("pipe"); got != "whole" {
		t.Errorf("the child's pipe is %s", got)
	}
	if got := c.ask("held 1"); got != "ConnectionResetError, then again by child" {
		t.Errorf("in the child, what was held ended so: %s", got)
	}
	c.ask("note child")
	if id := c.identity(); id.host != "child" || id.machine == before.machine || id.boot == before.boot || id.random == before.random {
		t.Errorf("the child is %+v, its parent was %+v", id, before)
	}
	if text, err := os.ReadFile(ws + "/notes"); string(text) != "restored\nchild\n" {
		t.Errorf("the file of the workspace that both held open has %q, %v", text, err)
	}
	h.must("kill", "child")
}

// trustImage spares a machine that is slow the reading of the whole image: TestSessionOnKVM has it read on the same one.
func (h *house) trustImage() {
	h.t.Helper()
	img, err := image.Latest(h.paths.Images())
	if err != nil {
		h.t.Fatal(err)
	}
	paths := []string{filepath.Join(img.Dir, "manifest.json")}
	for name := range img.Manifest.Files {
		paths = append(paths, filepath.Join(img.Dir, name))
	}
	verified.Mark(filepath.Join(h.paths.Runtime, "verified-"+img.Digest), paths, verified.Change)
}
