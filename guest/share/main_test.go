package share

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capsid/guest/share/pump"
)

// inNamespace marks the test process that runs in a mount namespace of its own.
const inNamespace = "CAPSID_SHARE_TEST_NAMESPACE"

// TestMain plays all parts: the share process, the guest's pump, the attacker behind the walls, and the tests, which run in a
// mount namespace of their own so that nothing stays mounted whatever happens.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "share-serve":
			exit(Main(os.Args[2:]))
		case "share-pump":
			exit(pumpMain(os.Args[2], os.Args[3]))
		case "share-probe":
			exit(probeMain())
		case "share-map":
			exit(mapMain(os.Args[2:]))
		}
	}
	if os.Getenv(inNamespace) == "" && hasFuse() {
		code, err := again()
		if err == nil {
			os.Exit(code)
		}
		fmt.Fprintf(os.Stderr, "no mount namespace here (%v): tests that mount are skipped\n", err)
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func hasFuse() bool {
	b, _ := os.ReadFile("/proc/filesystems")
	return unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) == nil && strings.Contains(string(b), "\tfuse\n")
}

// again runs the tests once more, in a namespace.
func again() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Unshareflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	var ended *exec.ExitError
	err = cmd.Run()
	if errors.As(err, &ended) {
		return ended.ExitCode(), nil
	}
	return 0, err
}

// mounted is a shared folder and where a guest sees it.
type mounted struct {
	t       *testing.T
	host    string // the folder
	guest   string // where it is mounted
	config  Config
	process *Process
	pump    *exec.Cmd
	orders  io.Writer // to the pump
	answers *bufio.Reader
	link    *net.UnixListener
	last    *net.UnixConn // the stream that came last
	lossy   *lossy        // and what it goes through
	others  []*Process    // that came after the first
	lost    bool          // the pump must end with an error

	mu     sync.Mutex
	serves *Process // takes the streams; nil: nobody does
	served sync.WaitGroup
}

// mount serves a new folder through a real share process to this machine's own kernel. Without FUSE the test is skipped; the
// same calls are then made in a machine, by the end-to-end tests.
func mount(t *testing.T, change ...func(*Config)) *mounted {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("no /dev/fuse or no mount namespace here")
	}
	m := &mounted{t: t, host: t.TempDir(), guest: t.TempDir()}
	m.config = testConfig(t, m.host)
	for _, c := range change {
		c(&m.config)
	}
	m.host = m.config.Dir
	m.process = start(t, m.config)
	m.serves = m.process
	socket := filepath.Join(t.TempDir(), "link")
	var err error
	m.link, err = net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	must(t, err)
	go m.accept()
	m.pump = exec.Command(m.config.Executable, "share-pump", m.guest, socket)
	m.pump.Stderr = os.Stderr
	m.pump.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := m.pump.StdoutPipe()
	must(t, err)
	m.answers = bufio.NewReader(out)
	m.orders, err = m.pump.StdinPipe()
	must(t, err)
	must(t, m.pump.Start())
	t.Cleanup(func() {
		if err := unix.Unmount(m.guest, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
		kill := time.AfterFunc(10*time.Second, func() { _ = m.pump.Process.Kill() })
		defer kill.Stop()
		if err := m.pump.Wait(); (err != nil) != m.lost {
			t.Errorf("pump: %v", err)
		}
		_ = m.link.Close()
		m.served.Wait()
		for _, p := range m.others {
			_ = p.Close()
			if err := p.Err(); err != nil {
				t.Error(err)
			}
		}
	})
	m.pumpSays("mounted")
	return m
}

// accept is the link and the supervisor.
func (m *mounted) accept() {
	for {
		conn, err := m.link.AcceptUnix()
		if err != nil {
			return
		}
		m.mu.Lock()
		p := m.serves
		if p == nil {
			_ = conn.Close()
		} else {
			m.last, m.lossy = conn, &lossy{Conn: conn}
			m.lossy.left.Store(-1)
			through := m.lossy
			m.served.Go(func() { _ = p.Serve(through) })
		}
		m.mu.Unlock()
	}
}

func (m *mounted) pumpSays(want string) {
	m.t.Helper()
	if got, err := m.answers.ReadString('\n'); err != nil || got != want+"\n" {
		m.t.Fatalf("the pump says %q %v, not %q", got, err, want)
	}
}

// tell gives the pump an order and waits until it is done.
func (m *mounted) tell(order string) {
	m.t.Helper()
	_, err := fmt.Fprintln(m.orders, order)
	must(m.t, err)
	m.pumpSays(order)
}

// pumpMain is the guest's agent: it mounts, pumps, freezes and thaws.
func pumpMain(path, socket string) error {
	dial := func(context.Context) (pump.Stream, error) {
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	}
	stream, err := dial(context.Background())
	if err != nil {
		return err
	}
	device, err := pump.Mount(path, false)
	if err != nil {
		return err
	}
	p := pump.New(device, stream, dial)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(context.Background()) }()
	if err := pump.Settle(path); err != nil && !errors.Is(err, os.ErrPermission) { // only root may set the read-ahead
		return err
	}
	fmt.Println("mounted")
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			switch lines.Text() {
			case "freeze":
				if err := p.Freeze(context.Background()); err != nil {
					fmt.Println(err)
					continue
				}
			case "fail to freeze":
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				err := p.Freeze(ctx)
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) {
					fmt.Println("frozen:", err)
					continue
				}
			case "thaw":
				p.Thaw()
			}
			fmt.Println(lines.Text())
		}
	}()
	return <-ended
}

func testConfig(t *testing.T, dir string) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Executable: self, Args: []string{"share-serve"}, Dir: dir,
		HostUID: os.Getuid(), HostGID: os.Getgid(), GuestUID: os.Getuid(), GuestGID: os.Getgid(),
		Log: os.Stderr,
	}
}

func start(t *testing.T, cfg Config) *Process {
	t.Helper()
	p, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Err(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// socketPair is a link stream and its other end.
func socketPair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	return ours, theirs
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErrno(t *testing.T, err error, want ...syscall.Errno) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Fatalf("got error %v, want one of %v", err, want)
}
