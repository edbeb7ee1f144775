package share

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
			exit(pumpMain(os.Args[2]))
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
	host    string // the folder
	guest   string // where it is mounted
	process *Process
}

// mount serves a new folder through a real share process to this machine's own kernel. Without FUSE the test is skipped; the
// same calls are then made in a machine, by the end-to-end tests.
func mount(t *testing.T, change ...func(*Config)) *mounted {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("no /dev/fuse or no mount namespace here")
	}
	m := &mounted{host: t.TempDir(), guest: t.TempDir()}
	cfg := testConfig(t, m.host)
	for _, c := range change {
		c(&cfg)
	}
	m.host = cfg.Dir
	m.process = start(t, cfg)

	ours, theirs := socketPair(t)
	served := make(chan error, 1)
	go func() { served <- m.process.Serve(ours) }()
	file, err := theirs.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	cmd := exec.Command(cfg.Executable, "share-pump", m.guest)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	t.Cleanup(func() {
		if err := unix.Unmount(m.guest, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("pump: %v", err)
		}
		<-served
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the pump did not mount: %v", err)
	}
	return m
}

// pumpMain is the guest's agent: it mounts and pumps.
func pumpMain(path string) error {
	device, err := pump.Mount(path, false)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(3, true); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- pump.Run(context.Background(), device, os.NewFile(3, "stream")) }()
	if err := pump.Settle(path); err != nil && !errors.Is(err, os.ErrPermission) { // only root may set the read-ahead
		return err
	}
	fmt.Print("\n")
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

func must(t *testing.T, err error) {
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
