package main

import (
	"context"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/guest/control"
)

// each runs do for every session that is named, also when one fails; the first error is the command's.
func (c *cli) each(keys []string, do func(*session.Store, session.Status) error) error {
	var first error
	for _, key := range keys {
		store, st, err := c.find(key)
		if err == nil {
			err = do(store, st)
		}
		if err != nil && first != nil {
			c.fail(err)
		} else if err != nil {
			first = err
		}
	}
	return first
}

func (c *cli) killCmd() *cobra.Command {
	return &cobra.Command{
		Use: "kill ID...", Short: "End sessions: power their machines off", Args: between(1, -1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(args, func(store *session.Store, st session.Status) error { return store.Kill(cmd.Context(), st.ID) })
		},
	}
}

func (c *cli) rmCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm ID...", Short: "Remove ended sessions and all that they wrote outside their workspace", Args: between(1, -1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.each(args, func(store *session.Store, st session.Status) error { return store.Remove(st.ID, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end a session that runs first")
	return cmd
}

func (c *cli) pauseCmd() *cobra.Command {
	return &cobra.Command{
		Use: "pause ID", Short: "Stop a session's processors; its memory stays", Args: exactly(1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := c.running(args[0])
			if err != nil {
				return err
			}
			return client.Pause(cmd.Context())
		},
	}
}

func (c *cli) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "resume ID", Short: "Let a paused session go on", Args: exactly(1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := c.running(args[0])
			if err != nil {
				return err
			}
			return client.Resume(cmd.Context())
		},
	}
}

// guest connects to the agent of a session that runs.
func (c *cli) guest(ctx context.Context, key string) (*control.Client, session.Status, error) {
	client, st, err := c.running(key)
	if err != nil {
		return nil, st, err
	}
	conn, err := client.Control(ctx)
	if err != nil {
		return nil, st, err
	}
	g, err := control.NewClient(conn)
	return g, st, err
}
