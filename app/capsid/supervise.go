package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"capsid/app/backend"
	"capsid/app/session"
	"capsid/app/supervisor"
	"capsid/guest/share"
)

func (c *cli) superviseCmd() *cobra.Command {
	return &cobra.Command{
		Use: "supervise ID", Short: "Be the process of a session; started by new and by the desktop", Hidden: true, Args: exactly(1, "the ID of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := session.DefaultPaths()
			if err != nil {
				return err
			}
			lock, ready, err := inherited(p, args[0])
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return supervisor.Run(cmd.Context(), supervisor.Config{
				Paths: p, ID: args[0], Lock: lock, Ready: ready, Executable: self, Backends: backend.All(), Version: version,
				Log: slog.New(slog.NewTextHandler(c.errFile, nil)),
			})
		},
	}
}

// inherited takes the files that session.Start hands over, and makes sure that they are those.
func inherited(p session.Paths, id string) (lock, ready *os.File, err error) {
	notStarted := &session.Error{Message: "supervise is started by capsid new", Hint: "capsid new --help"}
	var held, named unix.Stat_t
	if unix.Fstat(session.LockFD, &held) != nil || unix.Stat(filepath.Join(p.Folder(filepath.Base(id)), "lock"), &named) != nil ||
		held.Ino != named.Ino || held.Dev != named.Dev {
		return nil, nil, notStarted
	}
	if _, err := unix.FcntlInt(session.ReadyFD, unix.F_GETFD, 0); err != nil {
		return nil, nil, notStarted
	}
	// No child may hold the lock when this process is gone.
	unix.CloseOnExec(session.LockFD)
	unix.CloseOnExec(session.ReadyFD)
	return os.NewFile(session.LockFD, "lock"), os.NewFile(session.ReadyFD, "ready"), nil
}

func (c *cli) shareServeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "share-serve", Short: "Be the process that serves a workspace; started by supervise", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return share.Main(args) },
	}
}
