// Command capsid gives every AI coding agent a machine of its own.
//
// It is the command line of Capsid, and the program that the parts of a session run as: "capsid supervise" is the process of a session and
// "capsid share-serve" serves its workspace; "capsid vmm-serve" is its machine, on KVM. It exits with 0 on success, 2 when it was called wrongly, the status of the program for attach,
// run and ssh, and 1 otherwise, with one line on standard error that says what to do next.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/vmm/kvm"
)

func main() { os.Exit(Main(os.Args[1:])) }

// vmmServe is the command by which the kvm backend makes of this program the process of a machine. It is not for people.
const vmmServe = "vmm-serve"

// Main runs the command line and returns the exit status.
func Main(args []string) int {
	if len(args) > 0 && args[0] == vmmServe {
		return kvm.Main() // at once: a machine waits for nothing, and hears of its end from its socket alone
	}
	t := newTerm(os.Stdin, os.Stdout, os.Stderr)
	root := newRoot(t)
	root.SetArgs(args)
	// The first signal ends what is under way in order; a second one ends the program as usual.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	defer stop()
	err := root.ExecuteContext(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	t.fail(err)
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	if ctx.Err() != nil {
		return 130 // as a shell says of a command ended by ctrl-C
	}
	return 1
}

// exitStatus is an error that says nothing: the program's status is that of another, which has spoken for itself.
type exitStatus int

func (exitStatus) Error() string { return "the command failed" }

// usageError is a fault in how the program was called.
type usageError struct {
	msg string
	cmd *cobra.Command
}

func (e usageError) Error() string { return e.msg }

// cli is what every command works with.
type cli struct {
	*term
}

// store opens the sessions of this person.
func (c *cli) store() (*session.Store, error) {
	p, err := session.DefaultPaths()
	if err != nil {
		return nil, err
	}
	return session.OpenStore(p)
}

// find opens the store and finds the one session that key means.
func (c *cli) find(key string) (*session.Store, session.Status, error) {
	store, err := c.store()
	if err != nil {
		return nil, session.Status{}, err
	}
	st, err := store.Find(key)
	return store, st, err
}

// running finds a session that runs.
func (c *cli) running(key string) (*session.Client, session.Status, error) {
	store, st, err := c.find(key)
	if err != nil {
		return nil, st, err
	}
	client, err := clientOf(store, st)
	return client, st, err
}

// clientOf is the client of a session that runs.
func clientOf(store *session.Store, st session.Status) (*session.Client, error) {
	hint := "capsid new " + st.Agent + " starts another"
	switch st.State {
	case session.Running, session.Paused:
		return store.Client(st.ID), nil
	case session.Starting:
		return nil, &session.Error{Message: "session " + st.Name + " is still starting", Hint: "capsid ps shows when it is up", Kind: session.ErrNotRunning}
	case session.Suspended:
		hint = "capsid resume " + st.Name + " brings it back"
	}
	return nil, &session.Error{Message: "session " + st.Name + " is " + string(st.State), Hint: hint, Kind: session.ErrNotRunning}
}

func newRoot(t *term) *cobra.Command {
	c := &cli{t}
	root := &cobra.Command{
		Use:   "capsid",
		Short: "A machine of its own for every AI coding agent",
		Long: `Capsid runs an AI coding agent in a virtual machine of its own, with your project in front of it and no way
out but a proxy that you can watch and steer.

capsid alone opens the desktop. An ID may be a name or the beginning of one.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{"there is no command " + quote(args[0]), cmd}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.desktop() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{err.Error(), cmd} })
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddGroup(&cobra.Group{ID: "sessions", Title: "Sessions:"}, &cobra.Group{ID: "network", Title: "What may leave:"}, &cobra.Group{ID: "host", Title: "This computer:"})
	add := func(group string, list ...*cobra.Command) {
		for _, cmd := range list {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("sessions", c.newCmd(), c.psCmd(), c.attachCmd(), c.runCmd(), c.killCmd(), c.rmCmd(), c.pauseCmd(), c.resumeCmd(), c.suspendCmd(), c.snapshotCmd(), c.snapshotsCmd(),
		c.restoreCmd(), c.forkCmd(), c.sshCmd(), c.cpCmd())
	add("network", c.logCmd(), c.decideCmd("allow"), c.decideCmd("block"), c.policyCmd())
	add("host", c.imageCmd(), c.doctorCmd(), c.tourCmd(), c.versionCmd())
	root.AddCommand(c.superviseCmd(), c.shareServeCmd(), c.sshStdioCmd())
	return root
}

// exactly wants n arguments, called what as the usage line calls them.
func exactly(n int, what string) cobra.PositionalArgs { return between(n, n, what) }

func between(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low {
			return usageError{cmd.Name() + " needs " + what, cmd}
		}
		if high >= 0 && len(args) > high {
			return usageError{cmd.Name() + " takes " + what + " and no more; " + quote(args[high]) + " is too much", cmd}
		}
		return nil
	}
}
