package board

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"capsid/vmm/kvm/acpi"
	"capsid/vmm/kvm/tinykernel"
)

// tinyBoard is the configuration of a whole machine, with disks, for a kernel of a few instructions.
func tinyBoard(t testing.TB, code []byte) Config {
	t.Helper()
	openKVM(t)
	dir := t.TempDir()
	open := func(name string, content []byte) *os.File {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kvm.Close() })
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	return Config{
		KVM: kvm, Kernel: open("vmlinux", tinykernel.New(code)), Initrd: open("initrd.img", nil), CPUs: 2, Memory: 64 << 20, Console: null,
		Disks: []Disk{{Layers: []*os.File{open("root", make([]byte, 1<<20))}, ReadOnly: true}, {Layers: []*os.File{open("data", make([]byte, 1<<20))}}},
		Fault: func(err error) { t.Error(err) },
	}
}

// TestBoardsLeaveNothing: whole machines come and go, in the middle of their work or of themselves, without a trace.
func TestBoardsLeaveNothing(t *testing.T) {
	rests := tinyBoard(t, tinykernel.Rest())
	ends := tinyBoard(t, append(tinykernel.Out(acpi.SleepControlPort, acpi.SleepOff), tinykernel.Rest()...))
	cycle := func(cfg Config, wait bool) {
		t.Helper()
		b, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if wait {
			select {
			case <-b.Done():
			case <-time.After(time.Minute):
				t.Error("the machine goes on")
			}
			if end, err := b.Ended(); end != PowerOff || err != nil {
				t.Errorf("it ended by %s, %v", end, err)
			}
		}
		b.Close()
	}
	count := func() (threads, files, maps int) {
		return entries(t, "/proc/self/task"), entries(t, "/proc/self/fd"), lines(t, "/proc/self/maps")
	}
	for range 20 {
		cycle(rests, false)
	}
	threads, files, maps := count()
	for range 500 {
		cycle(rests, false)
		cycle(ends, true)
	}
	// The runtime keeps some threads, and maps some memory, of its own accord.
	if t2, f2, m2 := count(); t2 > threads+8 || f2 > files || m2 > maps+40 {
		t.Errorf("after 1000 machines: %d threads instead of %d, %d descriptors instead of %d, %d mappings instead of %d", t2, threads, f2, files, m2, maps)
	}
}

// A machine that cannot be made leaves nothing either.
func TestBoardIsUndone(t *testing.T) {
	good := tinyBoard(t, tinykernel.Rest())
	b, err := New(good) // the first makes what the runtime keeps
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	files := entries(t, "/proc/self/fd")
	for name, edit := range map[string]func(*Config){
		"kernel":       func(c *Config) { c.Kernel = c.Initrd },
		"memory":       func(c *Config) { c.Memory = 4096 },
		"command line": func(c *Config) { c.Cmdline = string(make([]byte, 5000)) },
		"KVM":          func(c *Config) { c.KVM = c.Initrd },
		"disk":         func(c *Config) { c.Disks = []Disk{{Layers: []*os.File{c.KVM}}} },
	} {
		cfg := good
		edit(&cfg)
		if b, err := New(cfg); err == nil {
			b.Close()
			t.Errorf("%s: no error", name)
		} else if errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now := entries(t, "/proc/self/fd"); now != files {
		t.Errorf("%d descriptors, %d before", now, files)
	}
}
