package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"capsid/app/session"
	"capsid/app/supervisor"
)

func (c *cli) sshCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "ssh ID [-- ARGS]",
		Short:   "Log in to a session's machine with ssh; ARGS are ssh's own",
		Example: "  capsid ssh claude-1\n  capsid ssh claude-1 -- -L 8080:localhost:3000\n  capsid ssh claude-1 -- uname -a",
		Args:    between(1, -1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := exec.LookPath("ssh")
			if err != nil {
				return &session.Error{Message: "ssh is missing", Hint: "sudo apt-get install openssh-client"}
			}
			argv, err := c.sshArgs(cmd.Context(), args[0], args[1:])
			if err != nil {
				return err
			}
			// ssh takes this process's place: its terminal, signals and status are then ours without a copy.
			return unix.Exec(path, argv, os.Environ())
		},
	}
}

// sshArgs is the command line of the real ssh: through the session's socket, to the key that the agent has now, and without the person's
// configuration, which may forward an agent or an environment.
func (c *cli) sshArgs(ctx context.Context, key string, rest []string) ([]string, error) {
	g, st, err := c.guest(ctx, key)
	if err != nil {
		return nil, err
	}
	hostKey := g.HostKey()
	g.Close()
	store, err := c.store()
	if err != nil {
		return nil, err
	}
	alias := "capsid-" + st.ID
	known := filepath.Join(store.Paths().Folder(st.ID), "known_hosts")
	if err := os.WriteFile(known, []byte(alias+" "+string(ssh.MarshalAuthorizedKey(hostKey))), 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	user, err := supervisor.GuestUser()
	if err != nil {
		return nil, err
	}
	argv := []string{"ssh", "-F", "none"}
	for _, o := range []string{
		"ProxyCommand=" + shellQuote(strings.ReplaceAll(self, "%", "%%")) + " ssh-stdio " + st.ID,
		`UserKnownHostsFile="` + strings.ReplaceAll(known, "%", "%%") + `"`, "GlobalKnownHostsFile=/dev/null", "HostKeyAlias=" + alias, "StrictHostKeyChecking=yes",
		"UpdateHostKeys=no", "ForwardAgent=no", "ForwardX11=no", "PreferredAuthentications=none", "LogLevel=ERROR",
	} {
		argv = append(argv, "-o", o)
	}
	return append(append(argv, user.Name+"@"+st.Name), rest...), nil
}

// shellQuote makes one word of s for sh, which ssh runs the ProxyCommand with.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (c *cli) sshStdioCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ssh-stdio ID", Short: "Join standard input and output with a session's control port", Hidden: true, Args: exactly(1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := c.running(args[0])
			if err != nil {
				return err
			}
			conn, err := client.Control(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			stop := context.AfterFunc(cmd.Context(), func() { conn.Close() })
			defer stop()
			go func() {
				io.Copy(conn, c.in)
				if w, ok := conn.(interface{ CloseWrite() error }); ok {
					w.CloseWrite()
				}
			}()
			if _, err := io.Copy(c.out, conn); err != nil && !errors.Is(err, io.EOF) && cmd.Context().Err() == nil {
				return err
			}
			return nil
		},
	}
}
