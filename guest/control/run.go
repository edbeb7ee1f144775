package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// RunSpec is one command to run in the guest.
type RunSpec struct {
	Command []string // searched for in the guest's PATH; empty means a login shell
	Dir     string   // the home folder when empty
	Env     []string // beyond the session's
	Root    bool     // as root, not as the ordinary user
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer // with a TTY all output goes to Stdout
	TTY     *Size     // a terminal of this size
	Signals <-chan os.Signal
	Resize  <-chan Size
}

// ErrLost means that the command's end was not learned: the machine or the connection went away first.
var ErrLost = errors.New("the connection to the machine ended before the command did")

// Run runs a command and returns its exit status: 128+n when signal n ended it. When ctx ends the command is killed, and the
// error is ctx's. Stdin may still be read once after Run has returned, as a read cannot be called back.
func (c *Client) Run(ctx context.Context, spec RunSpec) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	end := make(chan int, 1)
	ch, err := c.open(ctx, "session", nil, func(reqs <-chan *ssh.Request) { watchExit(reqs, end) })
	if err != nil {
		return 0, fmt.Errorf("run in the machine: %w", err)
	}
	defer ch.Close()
	stop := context.AfterFunc(ctx, func() {
		_, _ = ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{"KILL"}))
		_ = ch.Close()
	})
	defer stop()
	if err := start(ch, spec); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return 0, fmt.Errorf("run in the machine: %w", err)
	}

	over := make(chan struct{})
	defer close(over)
	go forward(ch, spec, over)
	if spec.Stdin != nil {
		go func() {
			_, _ = io.Copy(ch, spec.Stdin)
			_ = ch.CloseWrite()
		}()
	} else {
		_ = ch.CloseWrite()
	}
	var output sync.WaitGroup
	output.Go(func() { copyAll(spec.Stdout, ch) })
	output.Go(func() { copyAll(spec.Stderr, ch.Stderr()) })
	output.Wait()

	// The agent sends the status before it closes the channel, and watchExit closes end when the channel's requests end.
	code, ok := <-end
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if !ok {
		return 0, ErrLost
	}
	return code, nil
}

func start(ch ssh.Channel, spec RunSpec) error {
	if spec.TTY != nil {
		ok, err := ch.SendRequest("pty-req", true, ssh.Marshal(ptyRequest{Term: "xterm-256color", Cols: cells(spec.TTY.Cols), Rows: cells(spec.TTY.Rows)}))
		if err == nil && !ok {
			err = errors.New("the agent refused a terminal")
		}
		if err != nil {
			return err
		}
	}
	body, err := json.Marshal(Command{Command: spec.Command, Dir: spec.Dir, Env: spec.Env, Root: spec.Root})
	if err != nil {
		return err
	}
	if len(body) > 200<<10 {
		return errors.New("the command and its environment are longer than 200 KiB")
	}
	ok, err := ch.SendRequest(RequestCommand, true, body)
	if err == nil && !ok {
		err = errors.New("the agent refused the command: the machine is not set up yet")
	}
	return err
}

// copyAll copies until the guest ends its output, also when nobody wants it any more: the channel's window must not fill.
func copyAll(dst io.Writer, src io.Reader) {
	if dst != nil {
		_, _ = io.Copy(dst, src)
	}
	_, _ = io.Copy(io.Discard, src)
}

func forward(ch ssh.Channel, spec RunSpec, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case s, ok := <-spec.Signals:
			if !ok {
				spec.Signals = nil
			} else if name := signalName(s); name != "" {
				_, _ = ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
			}
		case z, ok := <-spec.Resize:
			if !ok {
				spec.Resize = nil
			} else {
				_, _ = ch.SendRequest("window-change", false, ssh.Marshal(windowChange{Cols: cells(z.Cols), Rows: cells(z.Rows)}))
			}
		}
	}
}

// watchExit takes the requests of a channel until they end, sends the exit status if one came, and closes end.
func watchExit(reqs <-chan *ssh.Request, end chan<- int) {
	defer close(end)
	sent := false
	report := func(code int) {
		if !sent {
			sent = true
			end <- code
		}
	}
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				report(int(m.Status & 0xff))
			}
		case "exit-signal":
			var m struct {
				Name    string
				Core    bool
				Message string
				Lang    string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				report(128 + SignalNumber(m.Name))
			}
		}
		if r.WantReply {
			_ = r.Reply(r.Type == "exit-status" || r.Type == "exit-signal", nil)
		}
	}
}

func cells(n int) uint32 { return uint32(min(max(n, 1), 10000)) }

// signalNumbers are the names of RFC 4254, section 6.10, with Linux's numbers.
var signalNumbers = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
	// Not in the RFC, and understood by the agent all the same.
	"TSTP": 20, "CONT": 18, "WINCH": 28,
}

// SignalNumber is the guest's (Linux's) number of a signal by its SSH name, 0 when there is none.
func SignalNumber(name string) int { return signalNumbers[name] }

// signalName names a signal of the host, whose numbers may differ from the guest's.
func signalName(s os.Signal) string {
	switch s {
	case syscall.SIGHUP:
		return "HUP"
	case syscall.SIGINT:
		return "INT"
	case syscall.SIGQUIT:
		return "QUIT"
	case syscall.SIGKILL:
		return "KILL"
	case syscall.SIGUSR1:
		return "USR1"
	case syscall.SIGUSR2:
		return "USR2"
	case syscall.SIGTERM:
		return "TERM"
	case syscall.SIGALRM:
		return "ALRM"
	case syscall.SIGCONT:
		return "CONT"
	case syscall.SIGTSTP:
		return "TSTP"
	}
	return ""
}
