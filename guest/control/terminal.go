package control

import (
	"context"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// Terminal is one client's view of a named terminal in the guest. Read gives the program's output, at first the replay of
// what it wrote recently; io.EOF means that the program or the connection ended. Closing it detaches; the program runs on.
type Terminal struct {
	ch   ssh.Channel
	exit chan int
}

// Terminal attaches to a named terminal, and starts spec.Command in it when no program runs there. ctx bounds the attaching alone.
func (c *Client) Terminal(ctx context.Context, spec TerminalSpec) (*Terminal, error) {
	extra, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if len(extra) > 200<<10 {
		return nil, fmt.Errorf("terminal %s: the command and its environment are longer than 200 KiB", spec.Name)
	}
	t := &Terminal{exit: make(chan int, 1)}
	t.ch, err = c.open(ctx, ChannelTerminal, extra, func(reqs <-chan *ssh.Request) { watchExit(reqs, t.exit) })
	if err != nil {
		return nil, fmt.Errorf("terminal %s: %w", spec.Name, err)
	}
	return t, nil
}

func (t *Terminal) Read(p []byte) (int, error)  { return t.ch.Read(p) }
func (t *Terminal) Write(p []byte) (int, error) { return t.ch.Write(p) }

// Resize sets the size of the terminal for all its clients: the last one that asked wins.
func (t *Terminal) Resize(cols, rows int) error {
	_, err := t.ch.SendRequest("window-change", false, ssh.Marshal(windowChange{Cols: cells(cols), Rows: cells(rows)}))
	return err
}

// Exit gives the program's exit status once, 128+n for signal n, and is then closed. It is closed without a value when
// this client detached or the connection ended first.
func (t *Terminal) Exit() <-chan int { return t.exit }

// Close detaches.
func (t *Terminal) Close() error { return t.ch.Close() }
