//go:build linux

package agent

import (
	"encoding/json"
	"io"

	"capsid/guest/control"

	"golang.org/x/crypto/ssh"
)

// startAfresh cancels a sequence that may have been cut short, and resets the terminal (CAN, RIS).
const startAfresh = "\x18\x1bc"

// serveTerminal attaches a channel to a named terminal.
func (s *server) serveTerminal(nc ssh.NewChannel) {
	var spec control.TerminalSpec
	if err := json.Unmarshal(nc.ExtraData(), &spec); err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "malformed terminal: "+err.Error())
		return
	}
	t, err := s.terminals.open(spec, func() (*program, error) {
		who, env, err := s.who(spec.Root)
		if err != nil {
			return nil, err
		}
		terminal := []string{"TERM=xterm-256color", "COLORTERM=truecolor"}
		return &program{who: who, argv: spec.Command, dir: spec.Dir, env: who.environment(env, terminal, spec.Env)}, nil
	})
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	v, first := t.attach(spec.Cols, spec.Rows)
	// The channel's requests end when the client detaches or goes away.
	go func() {
		defer v.detach()
		for r := range reqs {
			var m struct{ Cols, Rows, Width, Height uint32 }
			ok := r.Type == "window-change" && ssh.Unmarshal(r.Payload, &m) == nil
			if ok {
				t.resize(m.Cols, m.Rows)
			}
			if r.WantReply {
				_ = r.Reply(ok, nil)
			}
		}
	}()
	go func() { _, _ = io.Copy(t.near, ch) }()
	v.show(ch, first.Bytes())
	if code, ended := t.exit(); ended {
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
	}
	_ = ch.Close()
}

// show writes output to the client until it detaches or the program has ended.
func (v *viewer) show(w io.Writer, first []byte) {
	if _, err := w.Write(first); err != nil {
		return
	}
	buf := make([]byte, chunk)
	for {
		n, snapshot, more := v.next(buf)
		if !more {
			return
		}
		out := buf[:n]
		if snapshot != nil {
			out = append([]byte(startAfresh), snapshot.Bytes()...)
		}
		if _, err := w.Write(out); err != nil {
			return
		}
	}
}
