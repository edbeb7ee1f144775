package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/proxy/policy"
)

// decideCmd is allow and block.
func (c *cli) decideCmd(action string) *cobra.Command {
	var inSession, project string
	var always bool
	short := "Let sessions reach a host"
	if action == "block" {
		short = "Keep sessions from a host"
	}
	cmd := &cobra.Command{
		Use:   action + " HOST (--session ID | --project DIR | --always)",
		Short: short,
		Long: short + `. HOST is a name, "*.name" for all below it, or an address; ":port" after it means another port than those of HTTP.
With no flag it counts for the one session that runs.`,
		Args: exactly(1, "a host"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := session.DecisionRequest{Host: args[0], Action: action, From: "command line"}
			switch {
			case always:
				d.Scope = policy.ScopeAlways
			case project != "":
				d.Scope = policy.ScopeProject
			default:
				d.Scope = policy.ScopeSession
			}
			if d.Scope == policy.ScopeSession {
				client, err := c.oneRunning(cmd, inSession)
				if err != nil {
					return err
				}
				return client.Decide(cmd.Context(), d.Host, d.Action, d.Scope)
			}
			store, err := c.store()
			if err != nil {
				return err
			}
			var sess session.Session
			if project != "" {
				// As a session's workspace is kept, so that the two compare equal.
				if sess.Workspace, err = filepath.Abs(project); err == nil {
					sess.Workspace, err = filepath.EvalSymlinks(sess.Workspace)
				}
				if err != nil {
					return &session.Error{Message: "project " + project, Err: err, Hint: "name the folder that the sessions work in"}
				}
			}
			return session.Decide(store.Paths(), sess, d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&inSession, "session", "", "for this session alone")
	f.StringVar(&project, "project", "", "for all sessions that work in this folder")
	f.BoolVar(&always, "always", false, "for all sessions")
	cmd.MarkFlagsMutuallyExclusive("session", "project", "always")
	return cmd
}

// oneRunning finds the named session, or the only one that runs.
func (c *cli) oneRunning(cmd *cobra.Command, key string) (*session.Client, error) {
	if key != "" {
		client, _, err := c.running(key)
		return client, err
	}
	store, err := c.store()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, st := range list {
		if st.State == session.Running || st.State == session.Paused {
			ids = append(ids, st.ID)
		}
	}
	if len(ids) != 1 {
		return nil, usageError{"say for whom: --session ID, --project DIR or --always", cmd}
	}
	return store.Client(ids[0]), nil
}
