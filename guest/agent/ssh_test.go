//go:build linux

package agent

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capsid/guest/link"
)

// bridge joins standard input and output to a socket.
func bridge(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 1
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, c)
	return 0
}

// openSSH is the OpenSSH client's command line to the control port of b.
func (b *bed) openSSH() []string {
	b.t.Helper()
	path, err := exec.LookPath("ssh")
	if err != nil {
		b.t.Skip("no ssh here")
	}
	socket := filepath.Join(b.t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := b.host.Dial(b.t.Context(), link.Control)
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(s, c)
				_ = s.CloseWrite()
			}()
			go func() {
				_, _ = io.Copy(c, s)
				_ = c.Close()
				_ = s.Close()
			}()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	return []string{path, "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "ProxyCommand=" + self + " bridge " + socket, "-o", "ServerAliveInterval=1"}
}

func TestOpenSSH(t *testing.T) {
	b, _ := ready(t)
	base := b.openSSH()
	for _, x := range []struct {
		args    []string
		in, out string
		code    int
	}{
		{args: []string{"agent@m", "echo $SESSION; cat; echo err >&2; exit 3"}, in: "input", out: "yes\ninput", code: 3},
		{args: []string{"-tt", "agent@m", "stty size >/dev/null && echo terminal; exit 4"}, out: "terminal\r\n", code: 4},
		{args: []string{"agent@m"}, in: "echo shell $0\nexit 5\n", out: "shell -sh\n", code: 5},
		// OpenSSH has no status for a signal but 255.
		{args: []string{"agent@m", "kill -TERM $$"}, code: 255},
		// More than two seconds of silence: keep-alives are answered.
		{args: []string{"-o", "ServerAliveCountMax=1", "agent@m", "sleep 3; echo alive"}, out: "alive\n"},
	} {
		cmd := exec.CommandContext(t.Context(), base[0], append(base[1:len(base):len(base)], x.args...)...)
		cmd.Stdin = strings.NewReader(x.in)
		var errOut strings.Builder
		cmd.Stderr = &errOut
		out, _ := cmd.Output()
		if string(out) != x.out || cmd.ProcessState.ExitCode() != x.code {
			t.Errorf("%q: got %q, %d (%s); want %q, %d", x.args, out, cmd.ProcessState.ExitCode(), errOut.String(), x.out, x.code)
		}
	}
}
