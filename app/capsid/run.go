package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"capsid/app/session"
	"capsid/guest/control"
)

func (c *cli) runCmd() *cobra.Command {
	var root bool
	var dir string
	cmd := &cobra.Command{
		Use:   "run ID [--root] [--dir DIR] -- CMD [ARG...]",
		Short: "Run a command in a session; its exit status is ours",
		Args:  between(2, -1, "the ID or name of a session and a command"),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, st, err := c.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer g.Close()
			if dir == "" {
				dir = st.Workspace
			}
			return c.run(g, control.RunSpec{Command: args[1:], Dir: dir, Root: root})
		},
	}
	cmd.Flags().BoolVar(&root, "root", false, "run it as root of the machine")
	cmd.Flags().StringVar(&dir, "dir", "", "folder in the machine to run it in (default: the workspace)")
	return cmd
}

// forwarded are the signals that a command in the session gets in our place.
var forwarded = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}

// run runs a command with this program's standard streams: a terminal in the machine where we have one, pipes where we have pipes.
func (c *cli) run(g *control.Client, spec control.RunSpec) error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	spec.Stdin, spec.Stdout, spec.Stderr, spec.Signals = c.in, c.out, c.err, signals
	if isTerminal(c.in) && isTerminal(c.outFile) {
		cols, rows, err := xterm.GetSize(int(c.outFile.Fd()))
		if err != nil {
			return err
		}
		restore, err := c.raw()
		if err != nil {
			return err
		}
		defer restore()
		modes := &modeKeeper{out: c.outFile}
		defer modes.reset()
		resize := make(chan control.Size, 1)
		stop := c.followSize(resize)
		defer stop()
		spec.TTY, spec.Stdout, spec.Resize = &control.Size{Cols: cols, Rows: rows}, modes, resize
	}
	// The command's own end decides, not our context: signals are passed on to it.
	code, err := g.Run(context.Background(), spec)
	if err != nil {
		return &session.Error{Message: "run", Err: err, Hint: "capsid ps shows whether the session still runs"}
	}
	if code != 0 {
		return exitStatus(code)
	}
	return nil
}

// followSize sends the terminal's size after each change.
func (c *cli) followSize(to chan<- control.Size) (stop func()) {
	changed, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-changed:
				cols, rows, err := xterm.GetSize(int(c.outFile.Fd()))
				if err != nil {
					continue
				}
				select {
				case to <- control.Size{Cols: cols, Rows: rows}:
				case <-done:
					return
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
	}
}
