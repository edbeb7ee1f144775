package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/app/snapshot"
)

func (c *cli) snapshotCmd() *cobra.Command {
	var r session.SnapshotRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use: "snapshot ID [NAME]", Short: "Keep a session as it is now, to go on from there later", Args: between(1, 2, "the ID or name of a session, and perhaps a name for the snapshot"),
		Long: `snapshot keeps a session as it is now: memory, programs, terminals and disk. Its programs rest for a moment, and the session goes on.
Of a session that does not run the disk alone is kept: what goes on from that boots. Without NAME it is snap- and the first free number.

restore takes the session back to it, and fork lets other sessions go on from it. The workspace is no part of it: its files stay as they are.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, st, err := c.find(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				r.Name = args[1]
			}
			done, err := c.take(cmd.Context(), store, st, r)
			if err != nil {
				return err
			}
			if asJSON {
				return c.json(done)
			}
			if done.Kind == snapshot.Disk {
				_, err = fmt.Fprintf(c.out, "%s: the disk alone, %s\n", done.Name, bytesText(done.Bytes))
			} else {
				_, err = fmt.Fprintf(c.out, "%s: programs rested for %s, %s\n", done.Name, short(done.Rested), bytesText(done.Bytes))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&r.Note, "note", "", "one line of your own that is shown beside it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// taken is a snapshot that was made.
type taken struct {
	session.SnapshotResult
	Kind snapshot.Kind `json:"kind"`
}

// take takes a snapshot of a session: of its machine if it runs, else of its disk.
func (c *cli) take(ctx context.Context, store *session.Store, st session.Status, r session.SnapshotRequest) (taken, error) {
	if r.Name != "" {
		if err := snapshot.CheckName(r.Name); err != nil {
			return taken{}, err
		}
	}
	if err := snapshot.CheckNote(r.Note); err != nil {
		return taken{}, err
	}
	var done taken
	var err error
	if st.State == session.Stopped || st.State == session.Failed || st.State == session.Suspended {
		done, err = c.takeDisk(ctx, store, st, r)
	} else {
		done, err = c.takeAll(ctx, store, st, r)
	}
	if err != nil && ctx.Err() != nil {
		return done, &session.Error{Message: "interrupted; the session is as it was", Hint: "capsid snapshots " + st.Name + " shows those that there are"}
	}
	return done, err
}

func (c *cli) takeAll(ctx context.Context, store *session.Store, st session.Status, r session.SnapshotRequest) (taken, error) {
	client, err := clientOf(store, st)
	if err != nil {
		return taken{}, err
	}
	stop := c.working(ctx, client)
	done, err := client.Snapshot(ctx, r)
	stop()
	return taken{done, snapshot.Memory}, err
}

func (c *cli) takeDisk(ctx context.Context, store *session.Store, st session.Status, r session.SnapshotRequest) (taken, error) {
	c.note("Session %s is %s: its disk alone is kept, and what goes on from it boots.", st.Name, st.State)
	meter := c.workProgress()
	s, err := snapshot.TakeDisk(ctx, store, st.ID, r.Name, r.Note, func(done, total int64) {
		meter.show(&session.Work{Name: "snapshot", Stage: "check", Done: done, Total: total})
	})
	meter.end()
	if err != nil {
		return taken{}, err
	}
	return taken{session.SnapshotResult{Name: s.Name, Bytes: snapshot.Freed(s.Dir)}, snapshot.Disk}, nil
}

// snapshots is where a session's lie.
func snapshots(store *session.Store, id string) string {
	return snapshot.Folder(store.Paths().Folder(id))
}
