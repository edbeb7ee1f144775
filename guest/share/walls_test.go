package share

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// probeMain is what an attacker would do who has taken the share process over: it stands behind the same walls and tries the
// world outside. It answers with what each try came to.
func probeMain() error {
	var set settings
	if err := receiveJSON(controlFD, &set); err != nil {
		return err
	}
	outside := os.Getenv("OUTSIDE")
	// Opened before the walls are up, as a way round them.
	door, err := unix.Open(outside, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	h, err := prepareProbe(set)
	if err != nil {
		return err
	}
	got := map[string]string{}
	try := func(name string, call func() error) {
		got[name] = "done"
		if err := call(); err != nil {
			got[name] = err.Error()
		}
	}
	opened := func(fd int, err error) error {
		if err == nil {
			_ = unix.Close(fd)
		}
		return err
	}
	try("read outside", func() error { return opened(unix.Open(filepath.Join(outside, "secret"), unix.O_RDONLY, 0)) })
	try("write outside", func() error { return opened(unix.Open(filepath.Join(outside, "secret"), unix.O_WRONLY, 0)) })
	try("create outside", func() error {
		return opened(unix.Open(filepath.Join(outside, "new"), unix.O_WRONLY|unix.O_CREAT, 0o600))
	})
	try("remove outside", func() error { return unix.Unlinkat(unix.AT_FDCWD, filepath.Join(outside, "secret"), 0) })
	try("read through an open door", func() error { return opened(unix.Openat(door, "secret", unix.O_RDONLY, 0)) })
	try("reopen the open door", func() error { return opened(unix.Openat(h.proc, reference(door), unix.O_RDONLY|unix.O_DIRECTORY, 0)) })
	try("climb", func() error { return opened(unix.Openat(folderFD, "../outside/secret", unix.O_RDONLY, 0)) })
	try("follow a link", func() error { return opened(unix.Openat(folderFD, "link", unix.O_RDONLY, 0)) })
	try("link in", func() error { return unix.Linkat(door, "secret", folderFD, "stolen", 0) })
	try("rename in", func() error { return unix.Renameat2(door, "secret", folderFD, "stolen", 0) })
	try("socket", func() error { return opened(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)) })
	try("unix socket", func() error { return opened(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)) })
	try("socketpair", func() error {
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		return err
	})
	try("exec", func() error { return unix.Exec("/proc/self/exe", []string{"x"}, nil) })
	try("fork", func() error {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
		}
		return nil
	})
	try("ptrace", func() error { return unix.PtraceAttach(os.Getppid()) })
	try("kill the parent", func() error { return unix.Kill(os.Getppid(), 0) })
	try("mount", func() error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") })
	try("bpf", func() error { _, _, e := unix.Syscall(unix.SYS_BPF, 0, 0, 0); return errnoOrNil(e) })
	try("unshare", func() error { return unix.Unshare(unix.CLONE_NEWUSER) })
	try("io_uring", func() error { _, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0); return errnoOrNil(e) })
	try("executable memory", func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	})
	try("device node", func() error { return unix.Mknodat(folderFD, "dev", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) })
	try("inside", func() error { return opened(unix.Openat(folderFD, "inside", unix.O_RDWR|unix.O_CREAT, 0o600)) })
	if status, err := statusBefore(h); err == nil {
		got["status"] = status
	}
	b, err := json.Marshal(got)
	if err != nil {
		return err
	}
	_, err = unix.Write(controlFD, b)
	return err
}

func errnoOrNil(e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

// probeHost is a host whose own state was opened before the walls, to be read behind them.
type probeHost struct {
	*host
	status int
}

func prepareProbe(set settings) (*probeHost, error) {
	status, err := unix.Open("/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	h := &host{settings: set}
	if h.proc, err = unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	h.defences, err = confine(set)
	return &probeHost{h, status}, err
}

func statusBefore(h *probeHost) (string, error) {
	buf := make([]byte, 16<<10)
	n, err := unix.Read(h.status, buf)
	return string(buf[:max(n, 0)]), err
}

func TestWalls(t *testing.T) {
	base := t.TempDir()
	folder, outside := filepath.Join(base, "folder"), filepath.Join(base, "outside")
	must(t, os.Mkdir(folder, 0o755))
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(folder, "link")))

	for _, who := range []int{os.Getuid(), 12345} {
		t.Run(fmt.Sprintf("uid %d", who), func(t *testing.T) {
			if who != os.Getuid() {
				if os.Getuid() != 0 {
					t.Skip("only root can act as somebody else")
				}
				must(t, os.Chown(folder, who, who))
				must(t, os.Chown(outside, who, who))
				must(t, os.Chown(filepath.Join(outside, "secret"), who, who))
				_ = os.Remove(filepath.Join(folder, "inside"))
				openUp(t, base)
			}
			got := probe(t, folder, outside, owners{HostUID: uint32(who), HostGID: uint32(who)})
			for name, result := range got {
				switch name {
				case "inside":
					if result != "done" {
						t.Errorf("%s: %s", name, result)
					}
				case "status":
					for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000",
						fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d", who)} {
						if !strings.Contains(result, want) {
							t.Errorf("no %q in its status:\n%s", want, result)
						}
					}
				default:
					if result == "done" {
						t.Errorf("%s: was possible", name)
					}
				}
			}
			if len(got) < 25 {
				t.Errorf("only %d tries were made", len(got))
			}
		})
	}
}

// openUp lets another user come to the temporary folder of a test that root runs.
func openUp(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
}

func probe(t *testing.T, folder, outside string, who owners) map[string]string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	theirs := os.NewFile(uintptr(pair[1]), "control")
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	dir := os.NewFile(uintptr(fd), folder)
	cmd := exec.Command(self, "share-probe")
	cmd.Env = []string{"OUTSIDE=" + outside}
	cmd.ExtraFiles = []*os.File{dir, theirs}
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	_, _ = dir.Close(), theirs.Close()
	must(t, sendJSON(pair[0], settings{Owners: who}))
	buf := make([]byte, 64<<10)
	n, err := unix.Read(pair[0], buf)
	must(t, err)
	_ = unix.Close(pair[0])
	if err := cmd.Wait(); err != nil {
		t.Fatalf("probe: %v", err)
	}
	got := map[string]string{}
	must(t, json.Unmarshal(buf[:n], &got))
	return got
}

func TestStart(t *testing.T) {
	t.Run("defences", func(t *testing.T) {
		p := start(t, testConfig(t, t.TempDir()))
		all := strings.Join(p.Defences(), "\n")
		for _, want := range []string{"Landlock", "seccomp", "capabilities: none", "no new privileges"} {
			if !strings.Contains(all, want) {
				t.Errorf("no %q in:\n%s", want, all)
			}
		}
		t.Log(all)
	})
	t.Run("no folder", func(t *testing.T) {
		cfg := testConfig(t, filepath.Join(t.TempDir(), "missing"))
		_, err := Start(t.Context(), cfg)
		wantErrno(t, err, syscall.ENOENT)
	})
	t.Run("a file", func(t *testing.T) {
		cfg := testConfig(t, filepath.Join(t.TempDir(), "file"))
		must(t, os.WriteFile(cfg.Dir, nil, 0o600))
		_, err := Start(t.Context(), cfg)
		wantErrno(t, err, syscall.ENOTDIR)
	})
	t.Run("no program", func(t *testing.T) {
		cfg := testConfig(t, t.TempDir())
		cfg.Executable = "/nonexistent"
		_, err := Start(t.Context(), cfg)
		wantErrno(t, err, syscall.ENOENT)
	})
	t.Run("a program that ends at once", func(t *testing.T) {
		cfg := testConfig(t, t.TempDir())
		cfg.Executable, cfg.Args = "/bin/true", nil
		if _, err := Start(t.Context(), cfg); err == nil {
			t.Fatal("no error")
		}
	})
	t.Run("killed", func(t *testing.T) {
		p, err := Start(t.Context(), testConfig(t, t.TempDir()))
		must(t, err)
		must(t, p.command.Process.Kill())
		<-p.Done()
		if p.Err() == nil {
			t.Error("no reason given")
		}
		ours, _ := socketPair(t)
		if err := p.Serve(ours); err == nil {
			t.Error("a dead process serves")
		}
		must(t, p.Close())
	})
	t.Run("close twice", func(t *testing.T) {
		p, err := Start(t.Context(), testConfig(t, t.TempDir()))
		must(t, err)
		must(t, p.Close())
		must(t, p.Close())
		ours, _ := socketPair(t)
		if err := p.Serve(ours); err == nil {
			t.Error("a closed process serves")
		}
	})
	t.Run("too many streams", func(t *testing.T) {
		p := start(t, testConfig(t, t.TempDir()))
		var last *net.UnixConn
		for range maxStreams + 1 {
			ours, theirs := socketPair(t)
			go func() { _ = p.Serve(ours) }()
			last = theirs
			// A message out of turn is answered, which shows that the stream is taken.
			if _, err := theirs.Write(bare(3, 7, 1, make([]byte, 16))); err != nil {
				t.Fatal(err)
			}
			if n, _ := theirs.Read(make([]byte, 64)); n == 0 && last == theirs {
				return // refused, as the last one should be
			}
		}
		t.Error("all were taken")
	})
	t.Run("by hand", func(t *testing.T) {
		self, err := os.Executable()
		must(t, err)
		if out, err := exec.Command(self, "share-serve").CombinedOutput(); err == nil || !strings.Contains(string(out), "by hand") {
			t.Errorf("%v: %s", err, out)
		}
	})
}
