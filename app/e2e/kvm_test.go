package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capsid/proxy/ledger"
)

// TestSessionOnKVM is a whole session on a machine of our own VMM: chosen without being asked for, with its terminal, its folder and its only way out. It runs in
// the lab, whose /dev/kvm must be good for it.
func TestSessionOnKVM(t *testing.T) {
	if os.Getenv("CAPSID_LAB") == "" {
		t.Skip("make lab runs it")
	}
	h := newHouse(t)
	ws := h.workspace("project")
	if err := os.WriteFile(filepath.Join(ws, "hello.txt"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("from " + r.Host)) }))
	defer upstream.Close()
	policy := h.write("kvm.toml", "[network]\nallow = [\"allowed.test\"]\n\n[network.upstream.\"allowed.test:80\"]\naddress = \""+upstream.Listener.Addr().String()+"\"\n")
	st := h.start("kvm", "shell", ws, "--policy", policy, "--cpus", "2", "--memory", "1GiB")
	if st.Backend != "kvm" {
		t.Fatalf("the session runs on %s (%s)", st.Backend, st.Backing)
	}

	s := h.look(st)
	s.key("echo he''llo from $(nproc) processors\r")
	s.await("hello from 2 processors")

	sh := func(script string) string { return strings.TrimSpace(h.must("run", "kvm", "--", "sh", "-ec", script)) }
	if got := sh("cat hello.txt; echo from the guest >answer.txt; sync answer.txt"); got != "from the host" {
		t.Errorf("the guest reads %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(ws, "answer.txt")); string(b) != "from the guest\n" {
		t.Errorf("the host reads %q, %v", b, err)
	}
	if _, _, status := h.capsid("run", "kvm", "--", "sh", "-c", "exit 42"); status != 42 {
		t.Errorf("run gave %d, the command 42", status)
	}
	if got := sh("curl -s http://allowed.test/"); got != "from allowed.test" {
		t.Errorf("an allowed host says %q", got)
	}
	if got := sh("curl -s -o /dev/null -w '%{http_code}' http://elsewhere.test/"); got != "403" {
		t.Errorf("a host without a rule: %s", got)
	}
	rows := h.rows(st.ID)
	h.row(rows, "the request that went out", func(e ledger.Entry) bool {
		return e.Host == "allowed.test" && e.Decision == ledger.Allow && e.Status == 200
	})
	h.row(rows, "the request that did not", func(e ledger.Entry) bool { return e.Host == "elsewhere.test" && e.Decision != ledger.Allow })

	h.must("pause", "kvm")
	h.must("resume", "kvm")
	s.key("echo he''re again\r")
	s.await("here again")
	h.must("kill", "kvm")
	if st, err := h.store.Find("kvm"); err != nil || st.Error != "" {
		t.Errorf("after kill: %+v, %v", st, err)
	}
	// The next of this size goes on from what the first has left.
	h.warm("template")
	warm := h.start("warm", "shell", ws, "--policy", policy, "--cpus", "2", "--memory", "1GiB")
	if slices.Contains(steps(warm), "boot") {
		t.Errorf("it boots: %q", steps(warm))
	}
	if got := h.must("run", "warm", "--", "sh", "-c", "hostname; nproc; cat hello.txt; curl -s http://allowed.test/"); got != "warm\n2\nfrom the host\nfrom allowed.test" {
		t.Errorf("a machine that had booted before says %q", got)
	}
	for _, step := range warm.Steps {
		t.Logf("%-20s %v", step.Name, step.Duration)
	}
}
