package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"capsid/app/session"
)

func (c *cli) attachCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "attach ID", Short: "Sit down at a session's terminal; ctrl-] leaves it running", Args: exactly(1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, st, err := c.running(args[0])
			if err != nil {
				return err
			}
			if !isTerminal(c.in) || !isTerminal(c.outFile) {
				return &session.Error{Message: "attach needs a terminal", Hint: "capsid run " + st.Name + " -- CMD works with pipes"}
			}
			if st.State == session.Paused {
				return &session.Error{Message: "session " + st.Name + " is paused", Hint: "capsid resume " + st.Name}
			}
			return c.attach(cmd.Context(), client, st, name)
		},
	}
	cmd.Flags().StringVar(&name, "terminal", session.MainTerminal, "name of the terminal")
	return cmd
}

// errDetached: the person left; the session goes on.
var errDetached = errors.New("detached")

// attach joins this terminal with one of the session's until its program ends or the person leaves.
func (c *cli) attach(ctx context.Context, client *session.Client, st session.Status, name string) error {
	cols, rows, err := xterm.GetSize(int(c.outFile.Fd()))
	if err != nil {
		return err
	}
	conn, err := client.Terminal(ctx, name, cols, rows)
	if err != nil {
		return err
	}
	defer conn.Close()
	c.note("Attached to %s; ctrl-] leaves it running.", st.Name)
	restore, err := c.raw()
	if err != nil {
		return err
	}
	modes := &modeKeeper{out: c.outFile}
	var once sync.Once
	leave := func() {
		once.Do(func() {
			modes.reset()
			restore()
		})
	}
	defer leave() // a panic passes here too

	ended := make(chan error, 3)
	go func() { ended <- typeInto(conn, c.in) }()
	go func() {
		_, err := io.Copy(modes, conn)
		ended <- err
	}()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	for {
		select {
		case <-resized:
			if cols, rows, err := xterm.GetSize(int(c.outFile.Fd())); err == nil {
				conn.Resize(cols, rows)
			}
		case <-ctx.Done():
			leave()
			return errors.New("interrupted; the session goes on")
		case err := <-ended:
			leave()
			if errors.Is(err, errDetached) {
				fmt.Fprintf(c.err, "\r\nDetached; %s goes on. Come back with: capsid attach %s\n", st.Name, st.Name)
				return nil
			}
			select {
			case code := <-conn.Exit():
				if code != 0 {
					c.note("The program ended with status %d; the session goes on (capsid kill %s ends it).", code, st.Name)
					return exitStatus(code)
				}
				c.note("The program ended; the session goes on (capsid kill %s ends it).", st.Name)
				return nil
			default:
			}
			if err == nil {
				err = errors.New("the terminal was closed")
			}
			return &session.Error{Message: "attach", Err: err, Hint: "capsid ps shows whether the session still runs"}
		}
	}
}

// raw puts the terminal into raw mode and returns what undoes it.
func (c *cli) raw() (restore func(), err error) {
	state, err := xterm.MakeRaw(int(c.in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("raw mode: %w", err)
	}
	return func() { xterm.Restore(int(c.in.Fd()), state) }, nil
}

// typeInto passes on what is typed until the detach key or the end of the input.
func typeInto(w io.Writer, r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			keep, detach := cutDetach(buf[:n])
			if len(keep) > 0 {
				if _, err := w.Write(keep); err != nil {
					return err
				}
			}
			if detach {
				return errDetached
			}
		}
		if err == io.EOF {
			return errDetached // the terminal's other side hung up
		}
		if err != nil {
			return err
		}
	}
}
