package ui

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capsid/app/e2e/modelserver"
	"capsid/app/session"
)

// home is an install of its own: empty folders, the real programs and image.
type home struct {
	dir   string
	env   []string
	paths session.Paths
	store *session.Store
}

func newHome(t *testing.T, userToml string) *home {
	t.Helper()
	real, err := session.DefaultPaths()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "capsid-ui-") // not t.TempDir: sockets need short paths
	if pictures() {
		dir = "/tmp/you" // a path that is fit to be seen
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &home{dir: dir, paths: session.Paths{State: dir + "/.state/capsid", Runtime: dir + "/.run/capsid", Data: dir + "/.data/capsid", Config: dir + "/.config/capsid", Corp: real.Corp}}
	for _, d := range []string{".state/capsid", ".run", ".data/capsid", ".config/capsid"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(real.Images(), h.paths.Images()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.paths.UserPolicy(), []byte(userToml), 0o600); err != nil {
		t.Fatal(err)
	}
	if h.store, err = session.OpenStore(h.paths); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "XDG_STATE_HOME=" + dir + "/.state",
		"XDG_RUNTIME_DIR=" + dir + "/.run", "XDG_DATA_HOME=" + dir + "/.data", "XDG_CONFIG_HOME=" + dir + "/.config"}
	t.Cleanup(func() {
		list, err := h.store.List()
		if err != nil {
			t.Error(err)
		}
		for _, st := range list {
			if t.Failed() {
				if log, err := os.ReadFile(filepath.Join(h.paths.Folder(st.ID), "supervisor.log")); err == nil {
					t.Logf("%s is %s %s; its supervisor said:\n%.4000s", st.Name, st.State, st.Error, log)
				}
			}
			if err := h.store.Remove(st.ID, true); err != nil {
				t.Error(err)
			}
		}
	})
	return h
}

// TestNewClaudeByHand does what a newcomer does, with a real pointer and keyboard in a real window: click New Claude, choose a folder, talk to the
// agent, watch its requests, meet a blocked host, allow it, see the retry succeed; close the window and find everything again.
func TestNewClaudeByHand(t *testing.T) {
	bin := os.Getenv("CAPSID_BIN")
	if bin == "" || testing.Short() {
		t.Skip("CAPSID_BIN names no folder of built programs: make test sets it")
	}
	models, err := modelserver.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer models.Close()
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "the plum is ripe on %s\n", r.Host)
	}))
	defer outside.Close()
	h := newHome(t, models.Policy()+fmt.Sprintf("[network.upstream.\"orchard.example.com\"]\naddress = %q\n", outside.Listener.Addr()))
	shop := filepath.Join(h.dir, "shop")
	if err := os.Mkdir(shop, 0o755); err != nil {
		t.Fatal(err)
	}

	s := newScreen(t, h.env)
	s.open(filepath.Join(bin, "capsid-desktop"), h.dir)
	s.await("button", "Start Claude")
	s.shoot("welcome")

	// Choose the folder by clicks: the dialog begins in the home folder.
	s.click("button", "New Claude")
	s.click("button", "shop")
	s.shoot("new-claude")
	s.click("button", "Start")
	s.await("text", "step boot")
	s.shoot("starting")

	// Talk to the agent.
	s.reads("bypass permissions on")
	s.write("good morning")
	s.reads("❯ good morning")
	s.key("Return")
	s.reads("You said: good morning")
	s.write("write the word PLUM into " + filepath.Join(shop, "note.txt"))
	s.key("Return")
	s.reads("is in " + filepath.Join(shop, "note.txt") + " now.")
	if data, err := os.ReadFile(filepath.Join(shop, "note.txt")); err != nil || strings.TrimSpace(string(data)) != "PLUM" {
		t.Errorf("the host sees %q in the folder: %v", data, err)
	}

	// Its requests are in Live, and the filter finds them.
	s.click("tab", "Live")
	s.await("row", "allowed POST api.anthropic.com/v1/messages")
	s.shoot("live")
	s.click("entry", "filter")
	s.write("nothing-has-this")
	s.until("the filter leaves nothing", func() bool { _, ok := s.find("row", ""); return !ok })
	s.key("ctrl+a", "BackSpace")
	s.write("post 200")
	s.await("row", "allowed POST api.anthropic.com/v1/messages")
	s.key("ctrl+a", "BackSpace")

	// A host that no rule names: refused at once, and queued.
	s.click("terminal", "claude-1")
	const ask = "!curl -sS http://orchard.example.com/plum"
	s.write(ask)
	s.key("Return")
	s.click("tab", "Blocked 1")
	s.await("card", "example.com")
	s.reads("that host waits for your decision.")
	s.shoot("blocked")
	s.click("button", "example.com: Allow for this session")
	s.await("card", "example.com ✓ Allowed for this session")
	s.await("tab", "Blocked")
	s.shoot("allowed")
	// The click gave the keyboard back to the terminal: type again at once.
	s.write(ask)
	s.key("Return")
	s.reads("the plum is ripe on orchard.example.com")
	s.reads("That worked.")
	s.click("tab", "Live")
	s.await("row", "allowed GET orchard.example.com/plum 200")
	s.shoot("window")

	// A shell beside the agent, by the keyboard.
	s.key("ctrl+shift+t")
	s.await("tab", "claude-1 · shell-1")
	s.reads("shop$")
	s.write("cat note.txt; id -un")
	s.key("Return")
	s.reads("PLUM")
	s.key("ctrl+Tab")
	s.reads("the plum is ripe")

	// Every defence is told.
	s.click("tab", "Session")
	about := s.await("text", "about claude-1, ")
	if strings.HasPrefix(about.Name, "about claude-1, 0 ") {
		t.Error("no defence is told of")
	}
	s.shoot("session")

	// Closing the window leaves the session running; opening it finds all of it.
	s.key("ctrl+shift+q")
	if err := s.ends(); err != nil {
		t.Fatalf("the desktop ended with %v: %s", err, s.said)
	}
	st, err := h.store.Find("claude-1")
	if err != nil || st.State != session.Running {
		t.Fatalf("after closing the window the session is %q: %v", st.State, err)
	}
	s.open(filepath.Join(bin, "capsid-desktop"), h.dir)
	s.await("session", "claude-1 running")
	s.click("tab", "claude-1")
	s.reads("the plum is ripe on orchard.example.com")
	s.await("row", "allowed GET orchard.example.com/plum 200")

	// The folder is remembered.
	s.key("ctrl+shift+4")
	s.await("text", "New Shell")
	s.await("button", "~/shop")
	s.key("Escape")
	s.key("ctrl+shift+q")
	if err := s.ends(); err != nil {
		t.Errorf("the desktop ended with %v: %s", err, s.said)
	}
}
