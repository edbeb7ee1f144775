package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"capsid/app/session"
)

func (c *cli) psCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "ps", Short: "List sessions", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := c.store()
			if err != nil {
				return err
			}
			list, err := store.List()
			if err != nil {
				return err
			}
			if asJSON {
				if list == nil {
					list = []session.Status{}
				}
				return c.json(list)
			}
			if len(list) == 0 {
				c.note("No sessions. Start one with: capsid new claude")
				return nil
			}
			var rows [][]string
			for _, st := range list {
				rows = append(rows, []string{st.ID, st.Name, st.Agent, stateText(st), st.Backend, uptime(st), orDash(st.Workspace)})
			}
			if err := c.table([]string{"ID", "NAME", "AGENT", "STATE", "BACKEND", "UPTIME", "WORKSPACE"}, rows); err != nil {
				return err
			}
			for _, line := range backings(list) {
				c.note("%s", plain(line))
			}
			for _, st := range list {
				if st.Error != "" {
					c.note("%s: %s", st.Name, oneLine(st.Error))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// backings says what runs the machines that are up, and why: each answer once.
func backings(list []session.Status) []string {
	var lines []string
	for _, st := range list {
		if up := st.State == session.Running || st.State == session.Paused; up && st.Backing != "" && !slices.Contains(lines, st.Backing) {
			lines = append(lines, st.Backing)
		}
	}
	return lines
}

func stateText(st session.Status) string {
	if st.Blocked > 0 && (st.State == session.Running || st.State == session.Paused) {
		return fmt.Sprintf("%s, %d blocked", st.State, st.Blocked)
	}
	return string(st.State)
}

func uptime(st session.Status) string {
	switch {
	case st.State != session.Running && st.State != session.Paused || st.Started.IsZero():
		return "-"
	default:
		return short(time.Since(st.Started))
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
