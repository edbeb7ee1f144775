package share

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The machine's root does what it can to get at a file beside the folder.
func TestLinksLeadNowhere(t *testing.T) {
	base := t.TempDir()
	dir, secret := filepath.Join(base, "dir"), filepath.Join(base, "outside", "secret")
	must(t, os.MkdirAll(filepath.Dir(secret), 0o755))
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(secret, []byte("secret"), 0o644))
	m := mount(t, func(c *Config) { c.Dir = dir })

	// The guest's kernel follows links in the guest's tree, which here is the same machine's: what matters is that the host never does, so the
	// links are made to lead somewhere that is different when followed from the folder itself.
	for _, target := range []string{"../outside", "..", "../outside/secret", filepath.Dir(secret)} {
		name := filepath.Join(m.guest, "link")
		must(t, os.Symlink(target, name))
		if got, err := os.Readlink(filepath.Join(m.host, "link")); err != nil || got != target {
			t.Errorf("%q %v", got, err)
		}
		fi, err := os.Lstat(name)
		must(t, err)
		if fi.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s is %v", target, fi.Mode())
		}
		must(t, os.Remove(name))
	}
	// A hard link to a link is the link.
	must(t, os.Symlink(secret, filepath.Join(m.guest, "a")))
	must(t, unix.Linkat(unix.AT_FDCWD, filepath.Join(m.guest, "a"), unix.AT_FDCWD, filepath.Join(m.guest, "b"), 0))
	var st unix.Stat_t
	must(t, unix.Lstat(secret, &st))
	if st.Nlink != 1 {
		t.Error("the secret has been linked")
	}
}

// Somebody on the host swaps a folder for a link to the outside while the guest works in it.
func TestSwappedUnderway(t *testing.T) {
	base := t.TempDir()
	dir, outside := filepath.Join(base, "dir"), filepath.Join(base, "outside")
	must(t, os.MkdirAll(filepath.Join(dir, "real", "sub"), 0o755))
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "real", "sub", "f"), []byte("inside"), 0o644))
	must(t, os.WriteFile(filepath.Join(outside, "sub", "f"), []byte("secret"), 0o644))
	must(t, os.Symlink(outside, filepath.Join(dir, "trap")))

	_, c := serveHere(t, dir, false, limits{nodes: 100, descriptors: 1, handles: 10})
	var stop atomic.Bool
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "real"), unix.AT_FDCWD, filepath.Join(dir, "trap"), unix.RENAME_EXCHANGE)
		}
	})
	reads := 0
	for range 3000 {
		real, errno := c.lookup(rootID, "real")
		if errno != 0 {
			continue
		}
		sub, errno := c.lookup(real, "sub")
		if errno != 0 {
			continue
		}
		f, errno := c.lookup(sub, "f")
		if errno != 0 {
			continue
		}
		fh, errno := c.open(f, unix.O_RDWR)
		if errno != 0 {
			continue
		}
		data, errno := c.read(f, fh, 0, 100)
		if errno == 0 {
			reads++
			if string(data) != "inside" {
				t.Fatalf("read %q", data)
			}
		}
		c.call(18, f, u64(fh), u64(0), u64(0))
		c.create(sub, "new")
		c.call(10, sub, []byte("new\x00"))
	}
	stop.Store(true)
	swapper.Wait()
	if reads == 0 {
		t.Error("never got through")
	}
	t.Logf("%d reads between the swaps", reads)
	if left, err := os.ReadDir(filepath.Join(outside, "sub")); err != nil || len(left) != 1 {
		t.Errorf("outside: %v %v", left, err)
	}
}
