//go:build linux

package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"capsid/guest/agent/reap"
	"capsid/guest/control"

	"golang.org/x/crypto/ssh"
)

// session is one session channel (RFC 4254, 6): it runs one program, and hangs it up when the channel ends first.
type session struct {
	s    *server
	user string // of the connection
	ch   ssh.Channel
	env  []string
	pty  *ptyRequest
	proc *reap.Process
	near *os.File // of the terminal
}

// ptyRequest is the payload of "pty-req". Modes are not taken over: the kernel's are what programs expect.
type ptyRequest struct {
	Term                      string
	Cols, Rows, Width, Height uint32
	Modes                     string
}

func newSession(s *server, user string, ch ssh.Channel) *session {
	return &session{s: s, user: user, ch: ch}
}

// serve takes the channel's requests until its end.
func (x *session) serve(reqs <-chan *ssh.Request) {
	for r := range reqs {
		ok, after := x.request(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		// Output must not come before the reply that it belongs to.
		if after != nil {
			after()
		}
	}
	if x.proc != nil {
		x.proc.SignalGroup(syscall.SIGHUP)
		x.proc.SignalGroup(syscall.SIGCONT)
	}
	if x.near != nil {
		_ = x.near.Close()
	}
	// What still runs, since it ignores the hang-up, is not waited for: its output is thrown away as it comes.
	_ = x.ch.Close()
}

func (x *session) request(r *ssh.Request) (ok bool, after func()) {
	switch r.Type {
	case "env":
		var m struct{ Name, Value string }
		if ssh.Unmarshal(r.Payload, &m) != nil || len(x.env) >= 1024 {
			return false, nil
		}
		x.env = append(x.env, m.Name+"="+m.Value)
		return true, nil
	case "pty-req":
		var m ptyRequest
		if x.proc != nil || ssh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		x.pty = &m
		return true, nil
	case "window-change":
		var m struct{ Cols, Rows, Width, Height uint32 }
		if ssh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		if x.near != nil {
			setSize(x.near, m.Cols, m.Rows)
		} else if x.pty != nil {
			x.pty.Cols, x.pty.Rows = m.Cols, m.Rows
		}
		return true, nil
	case "signal":
		var m struct{ Name string }
		if ssh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		n := control.SignalNumber(m.Name)
		if x.proc == nil || n == 0 {
			return false, nil
		}
		x.proc.SignalGroup(syscall.Signal(n))
		return true, nil
	}
	if x.proc != nil {
		return false, nil
	}
	return x.startRequest(r)
}

// startRequest is one of the requests that start the channel's program.
func (x *session) startRequest(r *ssh.Request) (bool, func()) {
	cmd := control.Command{Root: x.user == "root"}
	var self string
	switch r.Type {
	case "shell":
	case "exec":
		var m struct{ Command string }
		if ssh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		cmd.Command = []string{"", "-c", m.Command} // of the user's shell
	case control.RequestCommand:
		if json.Unmarshal(r.Payload, &cmd) != nil {
			return false, nil
		}
	case "subsystem":
		var m struct{ Name string }
		if ssh.Unmarshal(r.Payload, &m) != nil || m.Name != "sftp" {
			return false, nil
		}
		self, cmd.Command = x.s.self, []string{sftpName}
	default:
		return false, nil
	}
	who, env, err := x.s.who(cmd.Root)
	if err != nil {
		return false, nil
	}
	p := &program{who: who, path: self, argv: cmd.Command, dir: cmd.Dir}
	var term []string
	if x.pty != nil {
		term = []string{"TERM=" + x.pty.Term}
	}
	p.env = who.environment(env, term, x.env, cmd.Env)
	switch {
	case len(p.argv) == 0:
		p.path, p.argv = who.shell, []string{"-" + filepath.Base(who.shell)}
	case p.argv[0] == "":
		p.path, p.argv[0] = who.shell, filepath.Base(who.shell)
	}
	start := x.startPipes
	if x.pty != nil {
		start = x.startTerminal
	}
	finish, err := start(p)
	if err != nil {
		return true, func() { x.failed(p, err) }
	}
	return true, func() { go finish() }
}

// failed ends a channel whose program could not be started as a shell would.
func (x *session) failed(p *program, err error) {
	end := "\n"
	if x.pty != nil {
		end = "\r\n"
	}
	_, _ = fmt.Fprintf(x.ch.Stderr(), "capsid: %v%s", err, end)
	x.exit(max(p.missing, 1), 0)
}

// exit tells the end of the program and closes the channel.
func (x *session) exit(code int, by syscall.Signal) {
	if name := signalName(by); name != "" {
		_, _ = x.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name    string
			Core    bool
			Message string
			Lang    string
		}{Name: name}))
	} else {
		_, _ = x.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
	}
	_ = x.ch.Close()
}

// signalName names a signal for "exit-signal". Those that RFC 4254 does not name are told as status 128+n.
func signalName(s syscall.Signal) string {
	for _, name := range []string{"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"} {
		if control.SignalNumber(name) == int(s) {
			return name
		}
	}
	return ""
}
