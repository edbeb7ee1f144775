//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"capsid/guest/agent/egress"
	"capsid/guest/agent/reap"
	"capsid/guest/link"

	"golang.org/x/sys/unix"
)

// machine is the guest as a whole.
type machine struct {
	procs   *reap.Reaper
	group   *reap.Group // of the session's programs
	trusted bool        // the proxy's certificate was installed
	link    link.Link
	steps   steps
	off     sync.Once
	unmount []string // mount points of host folders
	shares  shares
	egress  *egress.Egress

	later    []module      // to be loaded while the host connects
	complete chan struct{} // closed when all processors run and all modules are loaded
	warnings []string      // of what happened before that
}

// Main is all of the program capsid-agent. It returns only when it was not started as the first process of a machine.
func Main() {
	if filepath.Base(os.Args[0]) == sftpName {
		os.Exit(serveSFTP())
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "capsid-agent is the first process of a Capsid machine; it does nothing elsewhere")
		os.Exit(2)
	}
	m := &machine{complete: make(chan struct{})}
	m.openConsole()
	m.steps.done("kernel")
	if err := m.boot(); err != nil {
		m.fail(err)
	}
	s, err := m.newServer()
	if err != nil {
		m.fail(err)
	}
	listener, err := m.openLink()
	if err != nil {
		m.fail(err)
	}
	m.steps.done("link")
	go func() {
		defer close(m.complete)
		m.onlineProcessors()
		loadModules(m.later, m.log)
	}()
	go m.handleSignals()
	if err := s.serve(listener); err != nil {
		m.log("%v", err)
	}
	// The link is the only way in, and it has ended.
	m.shutDown()
}

func (m *machine) boot() error {
	if err := errors.Join(makeMounts(kernelMounts()), deviceLinks()); err != nil {
		return err
	}
	m.protect()
	group, err := reap.NewGroup(groupPath)
	if err != nil {
		return err
	}
	m.group, m.procs = group, reap.New(true)
	m.procs.Use(group)
	m.steps.done("mounts")
	events, err := deviceEvents()
	if err != nil {
		return err
	}
	defer unix.Close(events)
	first, rest, err := openModules()
	if err != nil {
		return fmt.Errorf("modules: %w", err)
	}
	loadModules(first, m.log)
	m.reopenConsole()
	m.steps.done("modules")
	if err := awaitDevices(events, rootDisk, writableDisk); err != nil {
		return err
	}
	m.steps.done("disks")
	if err := mountRoot(); err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	m.steps.done("root")
	m.later = rest
	return nil
}

// openConsole makes sure that the standard files are open: a descriptor of another kind with the number 2 would get the log.
func (m *machine) openConsole() {
	for fd := range 3 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			continue
		}
		_ = os.Mkdir("/dev", 0o755)
		_ = unix.Mknod("/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		_, _ = unix.Open("/dev/null", unix.O_RDWR, 0) // takes the lowest number that is free
	}
}

// reopenConsole takes the console whose driver was only now loaded, in place of none or of one that was for the kernel's start.
func (m *machine) reopenConsole() {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // there is none: the log goes where it went
	}
	for std := range 3 {
		_ = unix.Dup3(fd, std, 0)
	}
	_ = unix.Close(fd)
}

// log writes one line to the console.
func (m *machine) log(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "capsid: "+format+"\r\n", args...)
}

// protect keeps the first process from the out-of-memory killer, and gives it room for the relay's connections.
func (m *machine) protect() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	_ = os.WriteFile("/proc/sys/fs/nr_open", []byte("1048576"), 0)
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	unix.Umask(0o022)
}

// linkTime bounds the wait for the host's end of the link.
const linkTime = 2 * time.Minute

func (m *machine) openLink() (net.Listener, error) {
	ctx, cancel := context.WithTimeout(context.Background(), linkTime)
	defer cancel()
	var err error
	if m.link, err = link.Open(ctx); err != nil {
		return nil, err
	}
	l, err := m.link.Listen(link.Control)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	return l, nil
}

func (m *machine) newServer() (*server, error) {
	return newServer(serverConfig{
		procs: m.procs, self: "/proc/self/exe", log: m.log,
		setup: m.setup, clock: setClock, powerOff: m.shutDown,
		freeze: m.freeze, thaw: m.thaw, renew: m.renew,
	})
}

func (m *machine) handleSignals() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	<-c
	m.shutDown()
}

func setClock(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Settimeofday(&tv)
}
