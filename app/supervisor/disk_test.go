package supervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/app/session"
	"capsid/vmm"
)

func TestDiskIsSparse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if err := makeDisk(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Size() != diskSize {
		t.Fatalf("%v, %v", fi, err)
	}
	if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; used > 64<<20 {
		t.Errorf("an empty disk takes %d MiB", used>>20)
	}
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	if err := makeDisk(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("an old disk was overwritten: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "disk.ext4")
	err := makeDisk(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "the disk is full") || session.Hint(err) == "" {
		t.Fatalf("%v (%s)", err, session.Hint(err))
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a disk is left: %v", err)
	}
}

func TestInterruptedDisk(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if err := makeDisk(ctx, path); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a disk is left: %v", err)
	}
}

// probed is a backend that cannot start anything.
type probed struct {
	vmm.Backend
	name  string
	probe vmm.Probe
}

func (p probed) Name() string                    { return p.name }
func (p probed) Probe(context.Context) vmm.Probe { return p.probe }

func TestChooseBackend(t *testing.T) {
	no := probed{name: "kvm", probe: vmm.Probe{Reason: "no /dev/kvm", Fix: "modprobe kvm"}}
	yes := probed{name: "soft", probe: vmm.Probe{Usable: true, Reason: "QEMU is there"}}
	for _, c := range []struct {
		list       []vmm.Backend
		name, want string
		err, hint  string
	}{
		{[]vmm.Backend{no, yes}, "", "soft", "", ""},
		{[]vmm.Backend{no, yes}, "soft", "soft", "", ""},
		{[]vmm.Backend{no, yes}, "kvm", "", "no /dev/kvm", "modprobe kvm"},
		{[]vmm.Backend{no}, "", "", "no /dev/kvm", "modprobe kvm"},
		{[]vmm.Backend{no, yes}, "xen", "", "xen", "kvm, soft"},
	} {
		b, why, err := chooseBackend(t.Context(), c.list, c.name)
		if c.err == "" {
			if err != nil || b.Name() != c.want || why == "" {
				t.Errorf("%q: %v, %q, %v", c.name, b, why, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(session.Hint(err), c.hint) {
			t.Errorf("%q: %v (%s)", c.name, err, session.Hint(err))
		}
	}
}
