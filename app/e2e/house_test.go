// Package e2e works Capsid as its user does: the built programs, real machines in software emulation, the real agents, real clients. It needs the programs in
// CAPSID_BIN and a built image, as `make test` provides.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capsid/app/e2e/modelserver"
	"capsid/app/session"
	"capsid/proxy/ledger"
)

// house is an install of its own: empty folders, the real image and programs.
type house struct {
	t      testing.TB
	dir    string
	env    []string
	paths  session.Paths
	store  *session.Store
	models *modelserver.Server
	policy string // a policy file that leads the vendors' hosts to models
}

// patience is how long anything that a machine does may take here. It only ends tests that hang.
const patience = 4 * time.Minute

func newHouse(t testing.TB) *house {
	t.Helper()
	real, err := session.DefaultPaths()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: the sockets in it must have short paths, and its name must not be long.
	dir, err := os.MkdirTemp("", "capsid-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &house{t: t, dir: dir, paths: session.Paths{
		State: dir + "/state/capsid", Runtime: dir + "/run/capsid", Data: dir + "/data/capsid", Config: dir + "/config/capsid", Corp: real.Corp,
	}}
	for _, d := range []string{"state", "run", "data/capsid", "config/capsid", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(real.Images(), h.paths.Images()); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir + "/home", "TERM=xterm-256color", "LANG=C.UTF-8", "A_SECRET_OF_THE_HOST=do-not-tell",
		"XDG_STATE_HOME=" + dir + "/state", "XDG_RUNTIME_DIR=" + dir + "/run", "XDG_DATA_HOME=" + dir + "/data", "XDG_CONFIG_HOME=" + dir + "/config"}
	if h.store, err = session.OpenStore(h.paths); err != nil {
		t.Fatal(err)
	}
	if h.models, err = modelserver.Start(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.models.Close() })
	h.policy = h.write("models.toml", h.models.Policy())
	return h
}

// write makes a file in the house and returns its path.
func (h *house) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// capsid runs the command line and returns what it printed and its exit status.
func (h *house) capsid(args ...string) (stdout, stderr string, status int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(h.t), args...)
	cmd.Env = h.env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("capsid %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// must runs the command line and fails the test when it fails.
func (h *house) must(args ...string) string {
	h.t.Helper()
	out, errOut, status := h.capsid(args...)
	if status != 0 {
		h.t.Fatalf("capsid %s: exit status %d\n%s%s", strings.Join(args, " "), status, out, errOut)
	}
	return out
}

func program(t testing.TB) string {
	t.Helper()
	bin := os.Getenv("CAPSID_BIN")
	if bin == "" {
		t.Fatal("CAPSID_BIN names no folder: run the tests by make test, or build first (make build) and set it to bin")
	}
	return filepath.Join(bin, "capsid")
}

// workspace makes a folder that a session can work in.
func (h *house) workspace(name string) string {
	h.t.Helper()
	dir := filepath.Join(h.dir, "home", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return dir
}

// start starts a session by the command line and ends it with the test.
func (h *house) start(name, agent, workspace string, more ...string) session.Status {
	h.t.Helper()
	args := append([]string{"new", agent, workspace, "--name", name, "--detach"}, more...)
	h.must(args...)
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.tell(name)
		}
		h.must("rm", "--force", name)
	})
	st, err := h.store.Find(name)
	if err != nil {
		h.t.Fatal(err)
	}
	if st.State != session.Running {
		h.t.Fatalf("the session is %s: %s", st.State, st.Error)
	}
	return st
}

// tell prints what helps to understand a failure.
func (h *house) tell(name string) {
	out, _, _ := h.capsid("log", name)
	h.t.Logf("the ledger of %s:\n%s", name, out)
	if st, err := h.store.Find(name); err == nil {
		if log, err := os.ReadFile(filepath.Join(h.paths.Folder(st.ID), "supervisor.log")); err == nil {
			h.t.Logf("its supervisor's log:\n%s", tail(string(log), 4000))
		}
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// rows returns a session's ledger.
func (h *house) rows(id string) []ledger.Entry {
	h.t.Helper()
	var out []ledger.Entry
	text := h.must("log", id, "--json", "--lines", "100000")
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			h.t.Fatalf("capsid log --json: %v in %s", err, text)
		}
		var list []ledger.Entry
		if json.Unmarshal(v, &list) == nil {
			out = append(out, list...)
			continue
		}
		var e ledger.Entry
		if err := json.Unmarshal(v, &e); err != nil {
			h.t.Fatalf("capsid log --json: %v", err)
		}
		out = append(out, e)
	}
	return out
}

// row finds a row or fails.
func (h *house) row(rows []ledger.Entry, what string, is func(ledger.Entry) bool) ledger.Entry {
	h.t.Helper()
	for _, e := range rows {
		if is(e) {
			return e
		}
	}
	h.t.Errorf("no row of the ledger tells of %s", what)
	return ledger.Entry{}
}

func describe(rows []ledger.Entry) string {
	var b strings.Builder
	for _, e := range rows {
		fmt.Fprintf(&b, "%s %s %s %s %s:%d %d %s\n", e.Decision, e.Kind, e.Method, e.URL, e.Host, e.Port, e.Status, e.Reason)
	}
	return b.String()
}
