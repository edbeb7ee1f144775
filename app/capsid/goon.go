package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/app/snapshot"
)

func (c *cli) restoreCmd() *cobra.Command {
	var force, detach bool
	cmd := &cobra.Command{
		Use: "restore ID SNAPSHOT", Short: "Take a session back to one of its snapshots", Args: exactly(2, "the ID or name of a session and one of its snapshots"),
		Long: `restore takes a session back to a snapshot of it: what its machine did since is gone, but for its other snapshots. The workspace is no part
of a snapshot: its files stay as they are.

On a terminal it attaches at once; ctrl-] detaches, and the session goes on.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, st, err := c.find(args[0])
			if err != nil {
				return err
			}
			s, err := snapshot.Find(snapshots(store, st.ID), args[1])
			if err != nil {
				return err
			}
			if lives(st) {
				if !force {
					return &session.Error{
						Message: fmt.Sprintf("session %s is %s, and would lose what it did since %s", st.Name, st.State, s.Name),
						Hint:    "capsid snapshot " + st.Name + " keeps it as it is now; --force restores all the same", Kind: session.ErrAlive,
					}
				}
				// What cannot be restored must not cost the session that runs.
				if err := c.check(cmd.Context(), store, s); err != nil {
					return err
				}
				if err := store.Kill(cmd.Context(), st.ID); err != nil && !errors.Is(err, session.ErrNotRunning) {
					return err
				}
			}
			return c.restore(cmd.Context(), store, st, s, detach)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end a session that runs first")
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "print the session's ID and do not attach")
	return cmd
}

// lives reports whether a session has a supervisor.
func lives(st session.Status) bool {
	return st.State == session.Starting || st.State == session.Running || st.State == session.Paused
}

// check reads a snapshot, unless it was read before and not written to since.
func (c *cli) check(ctx context.Context, store *session.Store, s *snapshot.Snapshot) error {
	meter := c.workProgress()
	defer meter.end()
	return s.VerifyOnce(ctx, store.Paths(), func(done, total int64) {
		meter.show(&session.Work{Name: "snapshot " + s.Name, Stage: "check", Done: done, Total: total})
	})
}

// restore lets a session that has ended go on from a snapshot.
func (c *cli) restore(ctx context.Context, store *session.Store, st session.Status, s *snapshot.Snapshot, detach bool) error {
	now, err := snapshot.Restore(ctx, store, st.ID, s, snapshot.Options{OnStatus: c.steps()})
	if err != nil {
		return c.notUp(ctx, now, err, "session "+st.Name+" does not run, and its disk is as it was")
	}
	return c.sitDown(ctx, store, now, detach)
}

func (c *cli) forkCmd() *cobra.Command {
	var key, name string
	var count int
	var detach, asJSON bool
	cmd := &cobra.Command{
		Use: "fork ID", Short: "Start other sessions that go on from where one is, or was", Args: exactly(1, "the ID or name of a session"),
		Long: `fork makes sessions that go on from where one is now, each on its own: their programs and terminals go on in every one, with other names, other
random numbers and disks of their own. Connections to the outside are cut, so that programs make them anew. All share the workspace.

Without --at it takes a snapshot to go on from, which stays. On a terminal it attaches to a single fork at once.`,
		Example: "  capsid fork claude-1 --count 3\n  capsid fork claude-1 --at before-the-fix --name other-way",
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 || count > snapshot.MaxForks {
				return usageError{fmt.Sprintf("--count is %d; it can be 1 to %d", count, snapshot.MaxForks), cmd}
			}
			store, st, err := c.find(args[0])
			if err != nil {
				return err
			}
			s, made, err := c.forkPoint(cmd.Context(), store, st, key)
			if err != nil {
				return err
			}
			o := snapshot.Options{OnStatus: c.steps()}
			if count > 1 {
				o.OnStatus = c.several(count)
			}
			children, err := snapshot.Fork(cmd.Context(), store, s, count, name, o)
			if len(children) == 0 {
				if made {
					// Nobody asked for it but as the beginning of forks.
					err = errors.Join(err, snapshot.Remove(s.Dir, nil))
				}
				return c.notUp(cmd.Context(), session.Status{}, err, "there is no fork")
			}
			if err == nil && count == 1 && !detach && !asJSON && c.sits() {
				return c.sitDown(cmd.Context(), store, children[0], false)
			}
			return errors.Join(c.showForks(children, asJSON), err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "at", "", "a snapshot of the session to go on from (default: a new one)")
	f.IntVarP(&count, "count", "n", 1, fmt.Sprintf("how many, at most %d", snapshot.MaxForks))
	f.StringVar(&name, "name", "", "name of the fork, with a number each where there are several (default: the session's, with -fork and a number)")
	f.BoolVarP(&detach, "detach", "d", false, "do not attach")
	f.BoolVar(&asJSON, "json", false, "print JSON, and do not attach")
	return cmd
}

// forkPoint is the snapshot that forks go on from: the one that key means, what a suspended session is suspended as, or one that is made for it.
func (c *cli) forkPoint(ctx context.Context, store *session.Store, st session.Status, key string) (s *snapshot.Snapshot, made bool, err error) {
	folder := snapshots(store, st.ID)
	if key == "" && st.State == session.Suspended {
		key = st.Suspended
	}
	if key == "" {
		list, err := snapshot.List(folder)
		if err != nil {
			return nil, false, err
		}
		done, err := c.take(ctx, store, st, session.SnapshotRequest{Name: snapshot.FreeName(list, "fork-")})
		if err != nil {
			return nil, false, err
		}
		key, made = done.Name, true
	}
	s, err = snapshot.Find(folder, key)
	return s, made, err
}

func (c *cli) showForks(children []session.Status, asJSON bool) error {
	if asJSON {
		return c.json(children)
	}
	var rows [][]string
	for _, st := range children {
		rows = append(rows, []string{st.ID, st.Name, string(st.State), orDash(st.Backend), st.Parent.Snapshot})
	}
	return c.table([]string{"ID", "NAME", "STATE", "BACKEND", "FROM"}, rows)
}

// endTime is how long the supervisor of a session that is suspended may take to end.
const endTime = 30 * time.Second

func (c *cli) suspendCmd() *cobra.Command {
	return &cobra.Command{
		Use: "suspend ID", Short: "Keep a session on disk and end it; resume brings it back", Args: exactly(1, "the ID or name of a session"),
		Long: `suspend keeps a session on disk as it is, and ends it: it takes no memory then, and also outlives a restart of this computer. resume lets it go on.
It is kept as a snapshot like others, which stays when it goes on.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, st, err := c.find(args[0])
			if err != nil {
				return err
			}
			client, err := clientOf(store, st)
			if err != nil {
				return err
			}
			stop := c.working(cmd.Context(), client)
			done, err := client.Suspend(cmd.Context())
			stop()
			switch {
			case err != nil && cmd.Context().Err() != nil:
				return &session.Error{Message: "interrupted", Hint: "capsid ps shows whether the session still runs"}
			case err != nil:
				return err
			}
			// Whoever resumes it at once must find it ended.
			limit, cancel := context.WithTimeout(cmd.Context(), endTime)
			defer cancel()
			if err := store.AwaitEnd(limit, st.ID); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "%s is on disk as %s, %s; capsid resume %s brings it back.\n", st.Name, done.Name, bytesText(done.Bytes), st.Name)
			return err
		},
	}
}

func (c *cli) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "resume ID", Short: "Let a paused or suspended session go on", Args: exactly(1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, st, err := c.find(args[0])
			if err != nil {
				return err
			}
			if st.State != session.Suspended {
				client, err := clientOf(store, st)
				if err != nil {
					return err
				}
				return client.Resume(cmd.Context())
			}
			s, err := snapshot.Open(filepath.Join(snapshots(store, st.ID), st.Suspended))
			if err != nil {
				return err
			}
			now, err := snapshot.Restore(cmd.Context(), store, st.ID, s, snapshot.Options{OnStatus: c.steps()})
			if err != nil {
				return c.notUp(cmd.Context(), now, err, "session "+st.Name+" is still suspended")
			}
			return nil
		},
	}
}
