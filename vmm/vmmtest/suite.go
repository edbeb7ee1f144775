package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"capsid/guest/link"
	"capsid/vmm"
)

const (
	bootTime = 3 * time.Minute // of an emulated machine on a busy host
	callTime = time.Minute
)

// The machine that most cases share.
const (
	testCPUs   = 2
	testMemory = 512 << 20
	diskSize   = 8 << 20
)

// Run tests a backend.
func Run(t *testing.T, b vmm.Backend, o Options) {
	before := snapshot(t)
	o = o.resolve(t)
	t.Run("probe", func(t *testing.T) {
		if p := b.Probe(within(t, callTime)); !p.Usable || p.Reason == "" || p.Detail == "" {
			t.Fatalf("backend %s cannot be used on this host: %+v", b.Name(), p)
		}
	})
	t.Run("bad configurations", func(t *testing.T) { badConfigs(t, b, o) })
	t.Run("machines", func(t *testing.T) {
		// Two at a time: the machine that is shared, and the short-lived ones in turn.
		parallel := func(t *testing.T) {
			if !o.OneAtATime {
				t.Parallel()
			}
		}
		t.Run("shared", func(t *testing.T) {
			parallel(t)
			shared(t, b, o)
		})
		t.Run("ends", func(t *testing.T) {
			parallel(t)
			t.Run("panic is a crash", func(t *testing.T) { crash(t, b, o, "panic", "sysrq triggered crash") })
			t.Run("end of init is a crash", func(t *testing.T) { crash(t, b, o, "exit", "Attempted to kill init") })
			t.Run("reboot is a crash", func(t *testing.T) { crash(t, b, o, "reboot", "reboot") })
			t.Run("death of its process is a crash", func(t *testing.T) { killed(t, b, o) })
			t.Run("disk in use", func(t *testing.T) { diskInUse(t, b, o) })
			t.Run("close during boot", func(t *testing.T) { closeDuringBoot(t, b, o) })
			t.Run("start is cancelled", func(t *testing.T) { cancelledStart(t, b, o) })
		})
	})
	before.same(t)
}

// machine is one under test.
type machine struct {
	vmm.Machine
	cfg vmm.Config
}

func config(t testing.TB, o Options) vmm.Config {
	return vmm.Config{
		Name: "test, " + t.Name(), Kernel: o.Kernel, Initrd: o.Initrd, Cmdline: "vmmtest=1",
		CPUs: testCPUs, Memory: testMemory, Dir: t.TempDir(),
	}
}

func boot(t testing.TB, b vmm.Backend, cfg vmm.Config) *machine {
	t.Helper()
	started := time.Now()
	m, err := b.Start(within(t, callTime), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console of %s:\n%s", cfg.Name, strings.Join(m.Console(40), "\n"))
		}
		m.Close()
	})
	// The stream waits until the guest listens.
	c, err := m.Dial(within(t, bootTime), callPort)
	if err != nil {
		t.Fatalf("guest does not come up: %v; %v", err, m.Err())
	}
	c.Close()
	t.Logf("guest answers %v after start", time.Since(started).Round(time.Millisecond))
	return &machine{m, cfg}
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func (m *machine) dial(t testing.TB, port link.Port) link.Conn {
	t.Helper()
	c, err := m.Dial(within(t, callTime), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (m *machine) ask(t testing.TB, r request) answer {
	t.Helper()
	a, err := ask(m.dial(t, callPort), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ended waits for the machine's end and says why it ended.
func (m *machine) ended(t testing.TB) error {
	t.Helper()
	select {
	case <-m.Done():
		return m.Err()
	case <-time.After(bootTime):
		t.Fatal("the machine has not ended")
		return nil
	}
}

func badConfigs(t *testing.T, b vmm.Backend, o Options) {
	tests := []struct {
		name, want string
		is         error
		edit       func(*vmm.Config)
	}{
		{"no kernel", "Kernel", vmm.ErrConfig, func(c *vmm.Config) { c.Kernel = filepath.Join(c.Dir, "none") }},
		{"a disk that is a folder", "Disks[0]", vmm.ErrConfig, func(c *vmm.Config) { c.Disks = []vmm.Disk{{Path: c.Dir}} }},
		{"too many processors", "CPUs", vmm.ErrConfig, func(c *vmm.Config) { c.CPUs = 1000 }},
		{"no folder", "Dir", vmm.ErrConfig, func(c *vmm.Config) { c.Dir = filepath.Join(c.Dir, "none") }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, o)
			test.edit(&cfg)
			m, err := b.Start(within(t, callTime), cfg)
			if err == nil {
				m.Close()
			}
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err: %v", err)
			}
		})
	}
}

// crash asks the guest for its end, and wants to be told of it with the last lines of the console.
func crash(t *testing.T, b vmm.Backend, o Options, op, line string) {
	m := boot(t, b, config(t, o))
	c := m.dial(t, callPort)
	if _, err := ask(c, request{Op: op}); err == nil {
		t.Error("the guest answered")
	}
	err := m.ended(t)
	if !errors.Is(err, vmm.ErrCrashed) || !strings.Contains(err.Error(), line) {
		t.Errorf("err: %v", err)
	}
	if _, err := m.Dial(within(t, callTime), callPort); !errors.Is(err, link.ErrClosed) {
		t.Errorf("dial afterwards: %v", err)
	}
	if err := m.Pause(within(t, callTime)); err == nil {
		t.Error("a machine that has ended was paused")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func killed(t *testing.T, b vmm.Backend, o Options) {
	m, err := b.Start(within(t, callTime), config(t, o))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	l, err := m.Listen(hostPort)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(m.Info().PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, link.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if err := (&machine{Machine: m}).ended(t); !errors.Is(err, vmm.ErrCrashed) {
		t.Errorf("err: %v", err)
	}
}

// diskInUse: two machines may read a disk, and no second one may write what another does.
func diskInUse(t *testing.T, b vmm.Backend, o Options) {
	dir := t.TempDir()
	root := vmm.Disk{Path: makeDisk(t, dir, "root", ""), ReadOnly: true}
	data := vmm.Disk{Path: makeDisk(t, dir, "data", "")}
	start := func(disks ...vmm.Disk) error {
		cfg := config(t, o)
		cfg.Disks = disks
		m, err := b.Start(within(t, callTime), cfg)
		if err == nil {
			t.Cleanup(func() { m.Close() })
			if o.OneAtATime {
				err = m.Pause(within(t, callTime)) // its locks stay
			}
		}
		return err
	}
	if err := start(root, data); err != nil {
		t.Fatal(err)
	}
	if err := start(root); err != nil {
		t.Errorf("a second reader: %v", err)
	}
	if err := start(data); !errors.Is(err, vmm.ErrStart) || !strings.Contains(err.Error(), "lock") {
		t.Errorf("a second writer: %v", err)
	}
}

func closeDuringBoot(t *testing.T, b vmm.Backend, o Options) {
	m, err := b.Start(within(t, callTime), config(t, o))
	if err != nil {
		t.Fatal(err)
	}
	dialed := make(chan error)
	go func() {
		_, err := m.Dial(context.Background(), callPort)
		dialed <- err
	}()
	m.Close()
	if err := <-dialed; !errors.Is(err, link.ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if err := (&machine{Machine: m}).ended(t); !errors.Is(err, link.ErrClosed) {
		t.Errorf("err: %v", err)
	}
	m.Close()
}

func cancelledStart(t *testing.T, b vmm.Backend, o Options) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if m, err := b.Start(ctx, config(t, o)); err == nil {
		m.Close()
		t.Error("started")
	}
}

// resources are what this process holds.
type resources struct {
	goroutines, files int
	children          string
}

func snapshot(t testing.TB) resources {
	t.Helper()
	// The runtime opens its own descriptors with the first that it waits for.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	// Of each thread, for a backend may start its process from any.
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var children strings.Builder
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		children.Write(b)
	}
	return resources{runtime.NumGoroutine(), len(files), children.String()}
}

// same waits until nothing is held beyond what was before.
func (r resources) same(t *testing.T) {
	t.Helper()
	var now resources
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		now = snapshot(t)
		if now.goroutines <= r.goroutines && now.files <= r.files && now.children == r.children {
			return
		}
	}
	stacks := make([]byte, 64<<10)
	t.Errorf("something is left of the machines; before: %+v; after: %+v\n%s", r, now, stacks[:runtime.Stack(stacks, true)])
}

func makeDisk(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, diskSize); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantNear(what string, got, want, slack int64) error {
	if got > want || got < want-slack {
		return fmt.Errorf("%s: %d, want %d or up to %d less", what, got, want, slack)
	}
	return nil
}
