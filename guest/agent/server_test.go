//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capsid/guest/agent/reap"
	"capsid/guest/control"
	"capsid/guest/link"
)

// TestMain lets the test binary serve SFTP, as the agent's does, and be ssh's way to a socket.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == sftpName {
		os.Exit(serveSFTP())
	}
	if len(os.Args) == 3 && os.Args[1] == "bridge" {
		os.Exit(bridge(os.Args[2]))
	}
	// Under nohup SIGHUP is ignored, and so it would be in all that is started here; with a handler it is as in a machine.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	os.Exit(m.Run())
}

// bed is an agent's server on this host, and the host's end of the link to it.
type bed struct {
	t      *testing.T
	host   link.Link
	home   string
	off    chan struct{}
	setups int
	frozen bool
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, home: t.TempDir(), off: make(chan struct{})}
	a, z := net.Pipe()
	guest := link.NewMux(z, link.Guest)
	b.host = link.NewMux(a, link.Host)
	l, err := guest.Listen(link.Control)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(serverConfig{
		procs: reap.New(false), self: "/proc/self/exe", log: t.Logf,
		setup: func(_ context.Context, s control.Setup) (control.SetupResult, account, []string, error) {
			if s.Hostname == "bad" {
				return control.SetupResult{}, account{}, nil, errors.New("bad hostname")
			}
			b.setups++
			who := account{name: "tester", uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), home: b.home, shell: "/bin/sh"}
			return control.SetupResult{Kernel: "test\x1b[c", Steps: []control.StepTime{{Name: "all", Duration: time.Second}}}, who, s.Env, nil
		},
		clock:    func(time.Time) error { return nil },
		powerOff: func() { close(b.off) },
		freeze:   func() error { b.frozen = true; return nil },
		thaw:     func() error { b.frozen = false; return nil },
		renew: func(id control.Identity) ([]string, error) {
			if err := checkIdentity(id); err != nil {
				return nil, err
			}
			return append([]string{"TRUSTED=yes"}, id.Env...), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.serve(l)
	}()
	t.Cleanup(func() {
		_ = b.host.Close()
		_ = guest.Close()
		select {
		case <-served:
		case <-time.After(time.Minute):
			t.Error("the server does not end with its link")
		}
	})
	return b
}

func (b *bed) client() *control.Client {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	conn, err := b.host.Dial(ctx, link.Control)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := control.NewClient(conn)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// ready is a client of an agent that is set up.
func ready(t *testing.T) (*bed, *control.Client) {
	t.Helper()
	b := newBed(t)
	c := b.client()
	if _, err := c.Setup(t.Context(), control.Setup{Hostname: "h", Env: []string{"SESSION=yes", "TWICE=1", "TWICE=2"}}); err != nil {
		t.Fatal(err)
	}
	return b, c
}

func run(t *testing.T, c *control.Client, spec control.RunSpec) (out, errOut string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	spec.Stdout, spec.Stderr = &o, &e
	code, err := c.Run(ctx, spec)
	if err != nil {
		t.Errorf("%q: %v", spec.Command, err)
	}
	return o.String(), e.String(), code
}

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestSetupCall(t *testing.T) {
	b := newBed(t)
	c := b.client()
	if _, err := c.Run(t.Context(), control.RunSpec{Command: sh("true")}); err == nil {
		t.Error("a command ran before setup")
	}
	if _, err := c.Setup(t.Context(), control.Setup{Hostname: "bad"}); err == nil || !strings.Contains(err.Error(), "bad hostname") {
		t.Errorf("got %v", err)
	}
	big := control.File{Path: "~/big", Content: bytes.Repeat([]byte{7}, 3<<20)}
	for range 2 {
		r, err := c.Setup(t.Context(), control.Setup{Hostname: "good", Files: []control.File{big}})
		if err != nil || r.Kernel != "test[c" || len(r.Steps) != 1 {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	if b.setups != 1 {
		t.Errorf("set up %d times", b.setups)
	}
	if err := c.SetClock(t.Context(), time.Now()); err != nil {
		t.Error(err)
	}
	if err := c.PowerOff(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-b.off:
	case <-time.After(time.Minute):
		t.Error("did not power off")
	}
}

func TestFreezeAndRenew(t *testing.T) {
	b, c := ready(t)
	for range 2 {
		if err := c.Freeze(t.Context()); err != nil || !b.frozen {
			t.Fatalf("freeze: %v", err)
		}
	}
	environment := func() string {
		t.Helper()
		var out bytes.Buffer
		if code, err := c.Run(t.Context(), control.RunSpec{Command: []string{"sh", "-c", "echo $TRUSTED $FORK"}, Stdout: &out}); code != 0 || err != nil {
			t.Fatalf("%d, %v", code, err)
		}
		return strings.TrimSpace(out.String())
	}
	seed := bytes.Repeat([]byte{7}, 32)
	for _, step := range []struct {
		id   control.Identity
		want string // in the error
		env  string // afterwards
	}{
		{control.Identity{}, "entropy", ""},
		{control.Identity{Entropy: seed[:31]}, "entropy", ""},
		{control.Identity{Entropy: seed, Hostname: "a b"}, "hostname", ""},
		{control.Identity{Entropy: seed, MachineID: "xyz"}, "machine ID", ""},
		{control.Identity{Entropy: seed}, "", ""},
		{control.Identity{Entropy: seed, Env: []string{"FORK=1"}}, "", "yes 1"},
		{control.Identity{Entropy: seed, Env: []string{"FORK=2"}}, "", "yes 2"},
		{control.Identity{Entropy: seed, MachineID: strings.Repeat("0a", 16)}, "", "yes 2"},
	} {
		err := c.Renew(t.Context(), step.id)
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("%+v: %v", step.id, err)
		}
		if got := environment(); got != step.env {
			t.Errorf("%+v: the environment has %q, not %q", step.id, got, step.env)
		}
	}
	for range 2 {
		if err := c.Thaw(t.Context()); err != nil || b.frozen {
			t.Fatalf("thaw: %v", err)
		}
	}
}

func TestRun(t *testing.T) {
	b, c := ready(t)
	for name, x := range map[string]struct {
		spec     control.RunSpec
		out, err string
		code     int
	}{
		"apart":       {control.RunSpec{Command: sh("echo out; echo err >&2; exit 3")}, "out\n", "err\n", 3},
		"arguments":   {control.RunSpec{Command: []string{"printf", "%s|", "a b", "", "$HOME", "'"}}, "a b||$HOME|'|", "", 0},
		"input":       {control.RunSpec{Command: []string{"cat"}, Stdin: strings.NewReader(strings.Repeat("x", 3<<20))}, strings.Repeat("x", 3<<20), "", 0},
		"no input":    {control.RunSpec{Command: []string{"cat"}}, "", "", 0},
		"signal":      {control.RunSpec{Command: sh("kill -TERM $$")}, "", "", 143},
		"odd signal":  {control.RunSpec{Command: sh("kill -BUS $$")}, "", "", 128 + 7},
		"environment": {control.RunSpec{Command: sh("echo $SESSION $TWICE $MORE $HOME $USER $TERM"), Env: []string{"MORE=m"}}, "yes 2 m " + b.home + " tester\n", "", 0},
		"folder":      {control.RunSpec{Command: sh("pwd; echo $PWD"), Dir: "/usr"}, "/usr\n/usr\n", "", 0},
		"home":        {control.RunSpec{Command: []string{"pwd"}}, b.home + "\n", "", 0},
		"missing":     {control.RunSpec{Command: []string{"no-such-program"}}, "", "capsid: cannot run no-such-program: command not found\n", 127},
		"no program":  {control.RunSpec{Command: []string{"/etc/passwd"}}, "", "capsid: cannot run /etc/passwd: permission denied\n", 126},
		"no folder":   {control.RunSpec{Command: []string{"pwd"}, Dir: "/no/such"}, "", "capsid: cannot run in /no/such: no such folder\n", 126},
		"root":        {control.RunSpec{Command: sh("echo $HOME"), Root: true, Dir: "/"}, "/root\n", "", 0},
	} {
		if x.spec.Root && os.Getuid() != 0 {
			continue
		}
		out, errOut, code := run(t, c, x.spec)
		if out != x.out || errOut != x.err || code != x.code {
			t.Errorf("%s: got %.80q, %.80q, %d; want %.80q, %.80q, %d", name, out, errOut, code, x.out, x.err, x.code)
		}
	}
	script := filepath.Join(b.home, "script")
	if err := os.WriteFile(script, []byte("echo no first line $1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, _, _ := run(t, c, control.RunSpec{Command: []string{"./script", "x"}}); out != "no first line x\n" {
		t.Errorf("script: got %q", out)
	}
}

func TestOutputOfDescendants(t *testing.T) {
	_, c := ready(t)
	start := time.Now()
	// The sleeper keeps both pipes open. All that the shell itself wrote must be there all the same.
	out, _, code := run(t, c, control.RunSpec{Command: sh("sleep 50 & head -c 200000 /dev/zero | tr '\\0' y; exit 4")})
	if len(out) != 200000 || code != 4 {
		t.Errorf("got %d bytes, %d", len(out), code)
	}
	if d := time.Since(start); d > 40*time.Second {
		t.Errorf("took %v", d)
	}
	out, _, _ = run(t, c, control.RunSpec{Command: sh("(trap '' HUP; sleep 50) & echo done"), TTY: &control.Size{Cols: 80, Rows: 24}})
	if out != "done\r\n" {
		t.Errorf("on a terminal: got %q", out)
	}
}

func TestManyAtOnce(t *testing.T) {
	_, c := ready(t)
	var all sync.WaitGroup
	for i := range 120 {
		all.Go(func() {
			out, _, code := run(t, c, control.RunSpec{Command: sh(fmt.Sprintf("cat; exit %d", i)), Stdin: strings.NewReader(fmt.Sprint(i))})
			if out != fmt.Sprint(i) || code != i {
				t.Errorf("%d: got %q, %d", i, out, code)
			}
		})
	}
	all.Wait()
}

func TestRunTTY(t *testing.T) {
	_, c := ready(t)
	in, feed := io.Pipe()
	resize := make(chan control.Size, 1)
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code, err := c.Run(t.Context(), control.RunSpec{
			Command: sh("trap 'stty size' WINCH; stty size; tty >/dev/null && echo terminal; until read x; do :; done; echo $TERM; exit 5"), TTY: &control.Size{Cols: 101, Rows: 31},
			Stdin: in, Stdout: w, Resize: resize,
		})
		if err != nil {
			t.Error(err)
		}
		_ = w.Close()
		done <- code
	}()
	expect(t, r, "31 101\r\nterminal\r\n")
	resize <- control.Size{Cols: 55, Rows: 22}
	expect(t, r, "22 55\r\n")
	_, _ = io.WriteString(feed, "\n")
	expect(t, r, "xterm-256color\r\n")
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if code := <-done; code != 5 {
		t.Errorf("exit %d", code)
	}
}

// expect reads until it has seen want.
func expect(t *testing.T, r io.Reader, want string) string {
	t.Helper()
	var got bytes.Buffer
	buf := make([]byte, 4096)
	timer := time.AfterFunc(time.Minute, func() {
		if c, ok := r.(io.Closer); ok {
			_ = c.Close()
		}
	})
	defer timer.Stop()
	for !strings.Contains(got.String(), want) {
		n, err := r.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("got %q and %v, want %q", got.String(), err, want)
		}
	}
	return got.String()
}

func TestSignals(t *testing.T) {
	_, c := ready(t)
	signals := make(chan os.Signal, 1)
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code, err := c.Run(t.Context(), control.RunSpec{
			Command: sh("trap 'echo caught; exit 9' INT; echo set; while :; do sleep 0.05; done"), Stdout: w, Signals: signals,
		})
		if err != nil {
			t.Error(err)
		}
		done <- code
	}()
	expect(t, r, "set\n")
	signals <- syscall.SIGINT
	expect(t, r, "caught\n")
	if code := <-done; code != 9 {
		t.Errorf("exit %d", code)
	}
}

func TestCancel(t *testing.T) {
	b, c := ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, control.RunSpec{Command: sh("trap '' HUP INT TERM; echo $$; while :; do sleep 0.05; done"), Stdout: w})
		done <- err
	}()
	pid := strings.TrimSpace(expect(t, r, "\n"))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	awaitGone(t, pid)

	// A connection that ends hangs its commands up.
	c2 := b.client()
	r, w = io.Pipe()
	go func() {
		_, err := c2.Run(t.Context(), control.RunSpec{Command: sh("echo $$; sleep 300"), Stdout: w})
		done <- err
	}()
	pid = strings.TrimSpace(expect(t, r, "\n"))
	_ = c2.Close()
	if err := <-done; !errors.Is(err, control.ErrLost) {
		t.Errorf("got %v", err)
	}
	if err := c2.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	awaitGone(t, pid)
}

func awaitGone(t *testing.T, pid string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	t.Errorf("process %s is still there", pid)
}

func TestSFTP(t *testing.T) {
	b, c := ready(t)
	s, err := c.SFTP()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if wd, err := s.Getwd(); wd != b.home || err != nil {
		t.Errorf("working folder %q, %v", wd, err)
	}
	data := bytes.Repeat([]byte("0123456789"), 200_000)
	f, err := s.Create("file")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	got, err := os.ReadFile(filepath.Join(b.home, "file"))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestForward(t *testing.T) {
	_, c := ready(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		defer l.Close()
		go func() {
			for {
				s, err := l.Accept()
				if err != nil {
					return
				}
				b, _ := io.ReadAll(s)
				_, _ = s.Write(bytes.ToUpper(b))
				_ = s.Close()
			}
		}()
		conn, err := c.Dial("tcp", fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "hello")
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(conn); string(got) != "HELLO" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	for _, addr := range []string{"10.0.0.1:80", "example.com:80", "localhost:1"} {
		if conn, err := c.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("%s was reached", addr)
		}
	}
}
