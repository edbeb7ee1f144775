package share

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What an agent does all day.
func TestGit(t *testing.T) {
	m := mount(t)
	origin := filepath.Join(m.guest, "origin")
	must(t, os.Mkdir(origin, 0o755))
	run(t, origin, "git", "init", "-q", "-b", "main")
	for i := range 60 {
		dir := filepath.Join(origin, fmt.Sprintf("d%d", i%6))
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), []byte(strings.Repeat("line\n", i)), 0o644))
	}
	must(t, os.Symlink("d0/f0", filepath.Join(origin, "link")))
	run(t, origin, "git", "add", ".")
	run(t, origin, "git", "commit", "-q", "-m", "one")
	run(t, m.guest, "git", "clone", "-q", "origin", "clone")
	clone := filepath.Join(m.guest, "clone")
	if out := run(t, clone, "git", "status", "--porcelain"); out != "" {
		t.Errorf("a fresh clone is not clean: %s", out)
	}
	must(t, os.WriteFile(filepath.Join(clone, "d1/f1"), []byte("changed\n"), 0o644))
	run(t, clone, "git", "mv", "d2/f2", "d3/moved")
	run(t, clone, "git", "commit", "-q", "-a", "-m", "two")
	run(t, clone, "git", "gc", "-q")
	run(t, clone, "git", "checkout", "-q", "HEAD~1")
	run(t, clone, "git", "checkout", "-q", "main")
	run(t, clone, "git", "fsck", "--strict")
	// The host sees the same repository.
	if out := run(t, filepath.Join(m.host, "clone"), "git", "-c", "safe.directory=*", "log", "--oneline"); strings.Count(out, "\n") != 2 {
		t.Errorf("log: %s", out)
	}
	run(t, m.guest, "rm", "-rf", "clone", "origin")
	if left, err := os.ReadDir(m.host); err != nil || len(left) != 0 {
		t.Errorf("rm -rf left %v %v", left, err)
	}
}

func TestHostEdits(t *testing.T) {
	m := mount(t)
	guest, host := filepath.Join(m.guest, "f"), filepath.Join(m.host, "f")
	edits, slow := 0, 0
	// seen measures how long the guest needs; the machine may be busy, so it is given more than the second that it should take.
	seen := func(what string, there func() bool) {
		t.Helper()
		began := time.Now()
		eventually(t, there)
		edits++
		if took := time.Since(began); took > time.Second {
			slow++
			t.Logf("%s: seen after %v on a machine that is busy", what, took)
		}
	}
	defer func() {
		if slow > edits/2 {
			t.Errorf("%d of %d edits took longer than a second to be seen", slow, edits)
		}
	}()
	reads := func(want string) func() bool {
		return func() bool { b, _ := os.ReadFile(guest); return string(b) == want }
	}
	must(t, os.WriteFile(host, []byte("one"), 0o644))
	seen("a new file", reads("one"))
	must(t, os.WriteFile(host, []byte("two"), 0o644)) // the same size
	seen("a change", reads("two"))
	open, err := os.Open(guest)
	must(t, err)
	defer open.Close()
	must(t, os.WriteFile(host, []byte("longer than that"), 0o644))
	seen("a change of an open file", func() bool {
		b := make([]byte, 100)
		n, _ := open.ReadAt(b, 0)
		return string(b[:n]) == "longer than that"
	})
	// As editors save: a new file renamed over the old one.
	must(t, os.WriteFile(host+".new", []byte("renamed"), 0o600))
	must(t, os.Rename(host+".new", host))
	seen("a replaced file", reads("renamed"))
	must(t, os.Chmod(host, 0o751))
	seen("a mode", func() bool { fi, err := os.Stat(guest); return err == nil && fi.Mode() == 0o751 })
	must(t, os.Remove(host))
	seen("a removed file", func() bool { _, err := os.Stat(guest); return os.IsNotExist(err) })
	must(t, os.Mkdir(host, 0o755))
	seen("a folder in its place", func() bool { fi, err := os.Stat(guest); return err == nil && fi.IsDir() })
	must(t, os.WriteFile(host+"/inside", nil, 0o644))
	seen("what is in it", func() bool { e, err := os.ReadDir(guest); return err == nil && len(e) == 1 })
}

func TestRenameStorm(t *testing.T) {
	m := mount(t)
	const files, workers, rounds = 8, 4, 150
	for i := range files {
		must(t, os.MkdirAll(filepath.Join(m.guest, fmt.Sprint(i%2)), 0o755))
		must(t, os.WriteFile(filepath.Join(m.guest, fmt.Sprint(i%2), fmt.Sprint(i)), []byte{byte(i)}, 0o644))
	}
	var all sync.WaitGroup
	for w := range workers {
		side := m.guest
		if w == 0 {
			side = m.host // one of them on the host
		}
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			place := func() string { return filepath.Join(side, fmt.Sprint(r.IntN(2)), fmt.Sprint(r.IntN(files))) }
			for range rounds {
				from, to := place(), place()
				err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, uint(r.IntN(2)*unix.RENAME_EXCHANGE))
				switch err {
				case nil, unix.ENOENT, unix.ESTALE:
				default:
					t.Errorf("rename: %v", err)
				}
				_, _ = os.Stat(to)
				if r.IntN(4) == 0 {
					_ = os.WriteFile(from, []byte("x"), 0o644)
				}
			}
		})
	}
	all.Wait()
	// Both sides agree in the end.
	eventually(t, func() bool {
		for d := range 2 {
			a, _ := os.ReadDir(filepath.Join(m.host, fmt.Sprint(d)))
			b, _ := os.ReadDir(filepath.Join(m.guest, fmt.Sprint(d)))
			if fmt.Sprint(a) != fmt.Sprint(b) {
				return false
			}
			for _, e := range b {
				if _, err := os.ReadFile(filepath.Join(m.guest, fmt.Sprint(d), e.Name())); err != nil {
					return false
				}
			}
		}
		return true
	})
}

func TestTwoWriters(t *testing.T) {
	m := mount(t)
	must(t, os.WriteFile(filepath.Join(m.guest, "f"), make([]byte, 2<<20), 0o644))
	var both sync.WaitGroup
	for i, side := range []string{m.guest, m.host} {
		both.Go(func() {
			f, err := os.OpenFile(filepath.Join(side, "f"), os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			block := []byte(strings.Repeat(string(rune('a'+i)), 4096))
			for at := int64(i) * 4096; at < 2<<20; at += 8192 {
				if _, err := f.WriteAt(block, at); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	both.Wait()
	want := strings.Repeat(strings.Repeat("a", 4096)+strings.Repeat("b", 4096), 256)
	wantContent(t, filepath.Join(m.host, "f"), want)
	eventually(t, func() bool {
		b, err := os.ReadFile(filepath.Join(m.guest, "f"))
		return err == nil && string(b) == want
	})
}

func TestReadOnly(t *testing.T) {
	m := mount(t, func(c *Config) { c.ReadOnly = true })
	must(t, os.WriteFile(filepath.Join(m.host, "f"), []byte("content"), 0o644))
	must(t, os.Mkdir(filepath.Join(m.host, "d"), 0o755))
	f, d := filepath.Join(m.guest, "f"), filepath.Join(m.guest, "d")
	wantContent(t, f, "content")
	open := func(flags int) error { _, err := unix.Open(f, flags, 0); return err }
	at := unix.AT_FDCWD
	for name, err := range map[string]error{
		"write":    open(unix.O_WRONLY),
		"truncate": open(unix.O_RDONLY | unix.O_TRUNC),
		"create":   os.WriteFile(d+"/new", nil, 0o644),
		"mkdir":    os.Mkdir(d+"/new", 0o755),
		"mknod":    unix.Mknod(d+"/new", unix.S_IFREG|0o644, 0),
		"symlink":  os.Symlink("f", d+"/new"),
		"link":     os.Link(f, d+"/new"),
		"rename":   unix.Renameat2(at, f, at, d+"/new", 0),
		"unlink":   unix.Unlink(f),
		"rmdir":    unix.Rmdir(d),
		"chmod":    os.Chmod(f, 0o600),
		"chown":    os.Chown(f, 1, 1),
		"utimes":   os.Chtimes(f, time.Now(), time.Now()),
		"size":     unix.Truncate(f, 0),
		"setxattr": unix.Setxattr(f, "user.a", []byte("1"), 0),
	} {
		t.Run(name, func(t *testing.T) { wantErrno(t, err, unix.EROFS) })
	}
	wantContent(t, filepath.Join(m.host, "f"), "content")
}

func TestOwners(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv(inNamespace) == "" {
		t.Skip("only root can give files away")
	}
	owner := func(t *testing.T, name string) string {
		t.Helper()
		var st unix.Stat_t
		must(t, unix.Lstat(name, &st))
		return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
	}
	want := func(t *testing.T, name, want string) {
		t.Helper()
		if got := owner(t, name); got != want {
			t.Errorf("%s belongs to %s, want %s", name, got, want)
		}
	}
	if owner(t, t.TempDir()) != "0:0" {
		t.Skip("not root on the host")
	}
	t.Run("root's folder", func(t *testing.T) {
		m := mount(t, func(c *Config) { c.GuestUID, c.GuestGID = 1000, 1001 })
		must(t, os.WriteFile(m.host+"/ours", nil, 0o644))
		must(t, os.WriteFile(m.host+"/other", nil, 0o644))
		must(t, os.Chown(m.host+"/other", 777, 0))
		want(t, m.guest+"/ours", "1000:1001")
		want(t, m.guest+"/other", "65534:1001")
		must(t, os.WriteFile(m.guest+"/new", nil, 0o644))
		want(t, m.host+"/new", "0:0")
	})
	t.Run("somebody's folder", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.Chown(dir, 12345, 12346))
		m := mount(t, func(c *Config) { c.Dir, c.GuestUID, c.GuestGID = dir, 1000, 1001 })
		must(t, os.Mkdir(m.guest+"/d", 0o700))
		must(t, os.WriteFile(m.guest+"/d/f", []byte("x"), 0o600))
		must(t, os.Symlink("f", m.guest+"/d/l"))
		for _, name := range []string{"/d", "/d/f", "/d/l"} {
			want(t, m.guest+name, "1000:1001")
			want(t, m.host+name, "12345:12346")
		}
		wantContent(t, m.guest+"/d/f", "x")
		must(t, unix.Link(m.guest+"/d/f", m.guest+"/d/g"))
		must(t, os.Chmod(m.guest+"/d/f", 0o640))
		must(t, os.WriteFile(m.host+"/root", []byte("root's"), 0o600))
		_, err := os.ReadFile(m.guest + "/root")
		wantErrno(t, err, syscall.EACCES)
		run(t, m.guest, "rm", "-rf", "d")
	})
}

// TestCrowdedFolder lists a hundred thousand names, while some of them go and others come.
func TestCrowdedFolder(t *testing.T) {
	files := 100_000
	if testing.Short() {
		files = 5_000
	}
	m := mount(t)
	host, guest := filepath.Join(m.host, "d"), filepath.Join(m.guest, "d")
	must(t, os.Mkdir(host, 0o755))
	dir, err := unix.Open(host, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(dir)
	for i := range files {
		must(t, unix.Mknodat(dir, fmt.Sprintf("stay-%d", i), unix.S_IFREG|0o644, 0))
	}
	began := time.Now()
	d, err := os.Open(guest)
	must(t, err)
	defer d.Close()
	got := map[string]int{}
	for i := 0; ; i++ {
		names, err := d.Readdirnames(1000)
		for _, n := range names {
			got[n]++
		}
		if err != nil {
			break
		}
		must(t, unix.Mknodat(dir, fmt.Sprintf("come-%d", i), unix.S_IFREG|0o644, 0))
		if i > 0 {
			must(t, unix.Unlinkat(dir, fmt.Sprintf("come-%d", i-1), 0))
		}
	}
	t.Logf("%d names in %v", len(got), time.Since(began))
	for i := range files {
		if n := got[fmt.Sprintf("stay-%d", i)]; n != 1 {
			t.Fatalf("stay-%d was listed %d times", i, n)
		}
	}
	must(t, d.Close())
	must(t, os.RemoveAll(host))
	eventually(t, func() bool { _, err := os.Stat(guest); return os.IsNotExist(err) })
}

func TestRemoveTree(t *testing.T) {
	m := mount(t)
	for i := range 20 {
		dir := filepath.Join(m.host, "tree", fmt.Sprint(i), "node_modules")
		must(t, os.MkdirAll(dir, 0o755))
		for j := range 50 {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(j)), nil, 0o644))
		}
	}
	began := time.Now()
	run(t, m.guest, "rm", "-rf", "tree")
	t.Logf("1000 files removed in %v", time.Since(began))
	if left, err := os.ReadDir(m.host); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}
