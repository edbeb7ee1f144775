package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"capsid/app/backend"
	"capsid/app/session"
	"capsid/assets"
	"capsid/guest/image"
	"capsid/proxy/policy"
)

func (c *cli) newCmd() *cobra.Command {
	var o session.StartOptions
	var readOnly, detach, yes, ask bool
	var memory string
	cmd := &cobra.Command{
		Use:   "new AGENT [DIR]",
		Short: "Start an agent in a machine of its own, with DIR in front of it",
		Long: `new starts a session: a machine of its own for one agent, with the folder DIR (the current one if it is not given) at the same path.
Agents are claude, codex, gemini, shell, and those of your own in the agents folder of Capsid's configuration.

On a terminal it attaches at once; ctrl-] detaches, and the session goes on.`,
		Example: "  capsid new claude ~/src/project\n  capsid new shell . --read-only --detach",
		Args:    between(1, 2, "an agent (claude, codex, gemini, shell) and perhaps a folder"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return c.agentNames(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Agent, o.Workspace, o.Supervised = args[0], ".", ask
			if len(args) == 2 {
				o.Workspace = args[1]
			}
			if readOnly {
				o.Access = session.ReadOnly
			}
			if memory != "" {
				n, err := policy.ParseSize(memory)
				if err != nil {
					return usageError{"--memory: " + err.Error() + `; write it as "2GiB"`, cmd}
				}
				o.Memory = n
			}
			return c.start(cmd, o, yes, detach)
		},
	}
	f := cmd.Flags()
	names := backend.Names(backend.All())
	f.StringVar(&o.Name, "name", "", "name of the session (default: the agent's, with a number)")
	f.BoolVar(&readOnly, "read-only", false, "the agent may read the folder but not write to it")
	f.IntVar(&o.CPUs, "cpus", 0, "number of processors (default: [session] of the policy files, else 2)")
	f.StringVar(&memory, "memory", "", `size of the memory, as in "4GiB" (default: [session] of the policy files, else 2GiB)`)
	f.StringVar(&o.Policy, "policy", "", "a policy file for this session alone, beside user.toml")
	f.StringVar(&o.Backend, "backend", "", "what runs the machine: "+strings.Join(names, ", ")+" (default: [session] of the policy files, else the best that works here)")
	f.BoolVar(&o.Cold, "cold", false, "boot the machine, instead of going on from one that is kept warm (default: [session] warm of the policy files)")
	f.BoolVar(&ask, "no-autonomous", false, "let the agent ask before it acts; by default the machine is the sandbox")
	f.BoolVarP(&detach, "detach", "d", false, "print the session's ID and do not attach")
	f.BoolVarP(&yes, "yes", "y", false, "answer yes to what would be asked")
	// A flag that is there takes a completion.
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// agentNames are for completion and hints; a fault in an agent's file is for new to tell.
func (c *cli) agentNames() []string {
	p, err := session.DefaultPaths()
	if err != nil {
		return nil
	}
	agents, err := assets.Agents(p.Agents())
	if err != nil {
		return nil
	}
	var names []string
	for _, a := range agents {
		names = append(names, a.Name)
	}
	return names
}

// start starts a session, asking what needs to be asked, and attaches to it.
func (c *cli) start(cmd *cobra.Command, o session.StartOptions, yes, detach bool) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	var st session.Status
	for {
		st, err = store.Start(cmd.Context(), o, c.steps())
		switch {
		case errors.Is(err, session.ErrWide) && !o.AcceptWide:
			if !yes && (!c.asks() || !c.confirm(oneLine(err.Error())+". Share all of it, read-only?")) {
				return &session.Error{Message: oneLine(err.Error()), Hint: "choose a project's folder, or say --yes to share all of it read-only"}
			}
			o.AcceptWide = true
			continue
		case errors.Is(err, image.ErrNone):
			question := "There is no image to start from yet. Build it now? It takes some minutes and about 2 GB."
			if image.Building(store.Paths().Images()) {
				question = "An image is being built already. Wait for it?"
				err = &session.Error{Message: "an image is being built", Hint: "try again when it is there; capsid image build waits for it"}
			}
			if !c.asks() || !yes && !c.confirm(question) {
				return err
			}
			if err := c.buildImage(cmd.Context(), store.Paths()); err != nil {
				return err
			}
			continue
		}
		break
	}
	if err != nil {
		return c.notUp(cmd.Context(), st, err, "nothing of the session is left")
	}
	return c.sitDown(cmd.Context(), store, st, detach)
}

// notUp says why a session did not come up, and what is left of it when that was the person's will.
func (c *cli) notUp(ctx context.Context, st session.Status, err error, left string) error {
	for _, line := range st.Console {
		c.note("  | %s", plain(line))
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; " + left)
	}
	return err
}

// sitDown attaches to a session that has come up, where there is a terminal to do it with.
func (c *cli) sitDown(ctx context.Context, store *session.Store, st session.Status, detach bool) error {
	if detach || !c.sits() {
		_, err := fmt.Fprintln(c.out, st.ID)
		return err
	}
	return c.attach(ctx, store.Client(st.ID), st, session.MainTerminal)
}

// sits reports whether a person can attach from here.
func (c *cli) sits() bool { return isTerminal(c.in) && isTerminal(c.outFile) }
