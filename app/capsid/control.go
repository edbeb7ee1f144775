package main

import (
	"context"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/guest/control"
)

// all runs do for every argument, also when one fails; the first error is the command's.
func (c *cli) all(args []string, do func(arg string) error) error {
	var first error
	for _, arg := range args {
		err := do(arg)
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
			return c.all(args, func(key string) error {
				store, st, err := c.find(key)
				if err != nil {
					return err
				}
				return store.Kill(cmd.Context(), st.ID)
			})
		},
	}
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
