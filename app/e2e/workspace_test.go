package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWorkspace: the folder is at the same path on both sides, belongs to the person on both, and is the only folder of the host that is there.
func TestWorkspace(t *testing.T) {
	h := newHouse(t)
	ws := h.workspace("project with a space")
	if err := os.WriteFile(filepath.Join(h.dir, "home", "outside.txt"), []byte("not shared"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ws, "hello.txt"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.start("files", "shell", ws, "--cpus", "1")
	sh := func(script string) string {
		t.Helper()
		return strings.TrimSpace(h.must("run", "files", "--", "sh", "-ec", script))
	}

	if got := sh("pwd; cat hello.txt; stat -c %U hello.txt; id -un"); got != ws+"\nfrom the host\n"+sh("id -un")+"\n"+sh("id -un") {
		t.Errorf("the guest sees %q", got)
	}
	if _, _, status := h.capsid("run", "files", "--", "cat", filepath.Join(h.dir, "home", "outside.txt")); status == 0 {
		t.Error("a file beside the workspace can be read")
	}
	sh("ln -s ../outside.txt link")
	if _, _, status := h.capsid("run", "files", "--", "cat", "link"); status == 0 {
		t.Error("a symbolic link leads out of the workspace")
	}
	if got := sh("env"); strings.Contains(got, "A_SECRET_OF_THE_HOST") || strings.Contains(got, "do-not-tell") {
		t.Errorf("the host's environment is in the guest: %s", got)
	}

	// Work as an agent does it.
	sh(`git init -q . && git config user.email a@b.test && git config user.name a && git add hello.txt && git commit -qm first && git status --short >s && mkdir -p deep/er &&
		printf x >deep/er/f && mv deep moved && rm -r moved && printf 1 >n && for i in $(seq 200); do echo $i >>n; done && sync n`)
	if out, err := exec.Command("git", "-c", "safe.directory=*", "-C", ws, "log", "--format=%s").Output(); err != nil || strings.TrimSpace(string(out)) != "first" {
		t.Errorf("the host sees the commits %q, %v", out, err)
	}
	if data, err := os.ReadFile(filepath.Join(ws, "n")); err != nil || strings.Count(string(data), "\n") != 200 {
		t.Errorf("the host reads %d lines, %v", strings.Count(string(data), "\n"), err)
	}
	if info, err := os.Stat(filepath.Join(ws, "n")); err != nil || !ownedByMe(info) {
		t.Errorf("a file made in the guest is not the person's: %v %v", info, err)
	}

	// A program of the workspace itself: the agent starts it while it serves the folder that it lies in.
	sh(`printf '#!/bin/sh\necho "ran $1"\n' >prog && chmod +x prog`)
	if got := strings.TrimSpace(h.must("run", "files", "--", "./prog", "well")); got != "ran well" {
		t.Errorf("a program of the workspace says %q", got)
	}

	// What the person changes is seen inside, soon: the guest itself waits for it, a second at most.
	if err := os.WriteFile(filepath.Join(ws, "hello.txt"), []byte("changed on the host, and longer\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(`for i in 1 2 3 4 5 6 7 8 9 10 11 12; do grep -q longer hello.txt && exit 0; sleep 0.1; done; exit 1`)

	h.must("cp", "files:"+ws+"/n", filepath.Join(h.dir, "copied"))
	if data, err := os.ReadFile(filepath.Join(h.dir, "copied")); err != nil || !strings.HasSuffix(string(data), "\n200\n") {
		t.Errorf("cp: %v", err)
	}
	if _, _, status := h.capsid("run", "files", "--", "sh", "-c", "exit 42"); status != 42 {
		t.Errorf("run gave %d, the command 42", status)
	}
}
