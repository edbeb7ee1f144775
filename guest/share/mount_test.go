package share

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

// TestPosix runs the library's own table of behaviours on the mounted folder.
func TestPosix(t *testing.T) {
	m := mount(t)
	for name, test := range posixtest.All {
		switch name {
		case "Tmpfile":
			continue // O_TMPFILE is not supported; see TestCalls
		case "FcntlFlockLocksFile":
			continue // wants a process to be locked out by its own POSIX lock, as only forwarded locks do
		}
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(m.guest, name)
			must(t, os.Mkdir(dir, 0o755))
			test(t, dir)
		})
	}
}

// TestCalls is the table of what a call on the guest's side comes to, and what the host has then.
func TestCalls(t *testing.T) {
	m := mount(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, guest, host string)
	}{
		{"device nodes are refused", func(t *testing.T, guest, _ string) {
			wantErrno(t, unix.Mknod(guest+"/c", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), unix.EPERM)
			wantErrno(t, unix.Mknod(guest+"/b", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))), unix.EPERM)
		}},
		{"fifo and socket are names", func(t *testing.T, guest, host string) {
			must(t, unix.Mknod(guest+"/fifo", unix.S_IFIFO|0o640, 0))
			must(t, unix.Mknod(guest+"/socket", unix.S_IFSOCK|0o600, 0))
			fi, err := os.Lstat(host + "/fifo")
			must(t, err)
			if fi.Mode() != os.ModeNamedPipe|0o640 {
				t.Errorf("mode %v", fi.Mode())
			}
		}},
		{"set-user-ID is taken out", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(guest+"/f", nil, 0o755))
			must(t, unix.Chmod(guest+"/f", 0o6755))
			must(t, unix.Mknod(guest+"/g", unix.S_IFREG|0o4755, 0))
			fd, err := unix.Open(guest+"/h", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o4755)
			must(t, err)
			_ = unix.Close(fd)
			for _, name := range []string{"/f", "/g", "/h"} {
				var st unix.Stat_t
				must(t, unix.Stat(host+name, &st))
				if st.Mode&0o7000 != 0 {
					t.Errorf("%s: mode %o", name, st.Mode)
				}
			}
			must(t, os.Mkdir(guest+"/d", 0o755))
			must(t, unix.Chmod(guest+"/d", 0o3775))
			var st unix.Stat_t
			must(t, unix.Stat(host+"/d", &st))
			if st.Mode&0o7777 != 0o3775 {
				t.Errorf("folder: mode %o", st.Mode)
			}
		}},
		{"changes of owner do nothing", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(guest+"/f", nil, 0o644))
			must(t, unix.Chown(guest+"/f", 4242, 4243))
			var st unix.Stat_t
			must(t, unix.Stat(host+"/f", &st))
			if int(st.Uid) != os.Getuid() {
				t.Errorf("owner %d", st.Uid)
			}
		}},
		{"times to the nanosecond", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(guest+"/f", nil, 0o644))
			must(t, os.Symlink("nowhere", guest+"/l"))
			want := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 123_456_789}, {Sec: -5, Nsec: 987_654_321}}
			for _, name := range []string{"/f", "/l"} {
				must(t, unix.UtimesNanoAt(unix.AT_FDCWD, guest+name, want, unix.AT_SYMLINK_NOFOLLOW))
				for _, side := range []string{guest, host} {
					var st unix.Stat_t
					must(t, unix.Lstat(side+name, &st))
					if st.Atim != want[0] || st.Mtim != want[1] {
						t.Errorf("%s%s: %v %v", side, name, st.Atim, st.Mtim)
					}
				}
			}
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, guest+"/f", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0))
			var st unix.Stat_t
			must(t, unix.Stat(host+"/f", &st))
			if st.Atim != want[0] || time.Since(time.Unix(st.Mtim.Unix())) > time.Minute {
				t.Errorf("omit and now: %v %v", st.Atim, st.Mtim)
			}
		}},
		{"rename: no replace, exchange, over", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(guest+"/a", []byte("a"), 0o644))
			must(t, os.Mkdir(guest+"/d", 0o755))
			must(t, os.WriteFile(guest+"/d/b", []byte("b"), 0o644))
			at := unix.AT_FDCWD
			wantErrno(t, unix.Renameat2(at, guest+"/a", at, guest+"/d/b", unix.RENAME_NOREPLACE), unix.EEXIST)
			must(t, unix.Renameat2(at, guest+"/a", at, guest+"/d/b", unix.RENAME_EXCHANGE))
			wantContent(t, guest+"/a", "b")
			wantContent(t, guest+"/d/b", "a")
			must(t, unix.Renameat2(at, guest+"/a", at, guest+"/d", unix.RENAME_EXCHANGE))
			wantContent(t, guest+"/a/b", "a")
			wantContent(t, host+"/d", "b")
			must(t, os.Rename(guest+"/a/b", guest+"/d"))
			wantContent(t, host+"/d", "a")
			must(t, os.Mkdir(guest+"/e", 0o755))
			wantErrno(t, os.Rename(guest+"/d", guest+"/e"), unix.EEXIST, unix.EISDIR)
			wantErrno(t, unix.Rename(guest+"/e", guest+"/e/inside"), unix.EINVAL)
		}},
		{"a folder that moves keeps what is open in it", func(t *testing.T, guest, _ string) {
			must(t, os.MkdirAll(guest+"/x/y/z", 0o755))
			dir, err := unix.Open(guest+"/x/y/z", unix.O_PATH|unix.O_DIRECTORY, 0)
			must(t, err)
			defer unix.Close(dir)
			must(t, os.Rename(guest+"/x", guest+"/moved"))
			fd, err := unix.Openat(dir, "f", unix.O_CREAT|unix.O_WRONLY, 0o644)
			must(t, err)
			_ = unix.Close(fd)
			if _, err := os.Stat(guest + "/moved/y/z/f"); err != nil {
				t.Error(err)
			}
		}},
		{"a removed file stays open", func(t *testing.T, guest, host string) {
			f, err := os.OpenFile(guest+"/f", os.O_RDWR|os.O_CREATE, 0o600)
			must(t, err)
			defer f.Close()
			must(t, os.Remove(guest+"/f"))
			_, err = f.WriteString("still here")
			must(t, err)
			must(t, f.Truncate(5))
			must(t, f.Chmod(0o640))
			fi, err := f.Stat()
			must(t, err)
			b := make([]byte, 10)
			n, _ := f.ReadAt(b, 0)
			if fi.Size() != 5 || fi.Mode() != 0o640 || fi.Sys().(*syscall.Stat_t).Nlink != 0 || string(b[:n]) != "still" {
				t.Errorf("%v %v %q", fi.Size(), fi.Mode(), b[:n])
			}
		}},
		{"a file removed on the host stays open", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(host+"/f", []byte("content"), 0o600))
			f, err := os.Open(guest + "/f")
			must(t, err)
			defer f.Close()
			must(t, os.Remove(host+"/f"))
			if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
				t.Errorf("%q %v", b, err)
			}
			eventually(t, func() bool { _, err := f.Stat(); return err == nil })
		}},
		{"links", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(guest+"/f", []byte("x"), 0o644))
			must(t, os.Link(guest+"/f", guest+"/g"))
			must(t, os.Symlink("f", guest+"/s"))
			must(t, unix.Linkat(unix.AT_FDCWD, guest+"/s", unix.AT_FDCWD, guest+"/t", 0))
			a, err := os.Stat(guest + "/f")
			must(t, err)
			b, err := os.Stat(guest + "/g")
			must(t, err)
			if !os.SameFile(a, b) || a.Sys().(*syscall.Stat_t).Nlink != 2 {
				t.Errorf("%+v %+v", a.Sys(), b.Sys())
			}
			if to, err := os.Readlink(guest + "/t"); err != nil || to != "f" {
				t.Errorf("%q %v", to, err)
			}
			must(t, os.Remove(guest+"/f"))
			wantContent(t, guest+"/g", "x")
			must(t, os.Chmod(guest+"/g", 0o600))
		}},
		{"append from both sides", func(t *testing.T, guest, host string) {
			f, err := os.OpenFile(guest+"/log", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
			must(t, err)
			defer f.Close()
			g, err := os.OpenFile(host+"/log", os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			defer g.Close()
			var want strings.Builder
			for i := range 50 {
				for _, w := range []*os.File{f, g} {
					line := fmt.Sprintf("%s %d\n", w.Name(), i)
					_, err := w.WriteString(line)
					must(t, err)
					want.WriteString(line)
				}
			}
			wantContent(t, host+"/log", want.String())
		}},
		{"beyond 4 GiB, holes, punching", func(t *testing.T, guest, host string) {
			f, err := os.OpenFile(guest+"/big", os.O_RDWR|os.O_CREATE, 0o644)
			must(t, err)
			defer f.Close()
			const far = 5 << 30
			_, err = f.WriteAt([]byte("end"), far)
			must(t, err)
			_, err = f.WriteAt([]byte("start"), 0)
			must(t, err)
			fi, err := os.Stat(host + "/big")
			must(t, err)
			if fi.Size() != far+3 {
				t.Errorf("size %d", fi.Size())
			}
			hole, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
			must(t, err)
			data, err := unix.Seek(int(f.Fd()), hole, unix.SEEK_DATA)
			must(t, err)
			if hole <= 0 || hole > 1<<20 || data < far-1<<20 || data > far {
				t.Errorf("hole at %d, data at %d", hole, data)
			}
			must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20))
			b := make([]byte, 5)
			_, err = f.ReadAt(b, 0)
			must(t, err)
			if !bytes.Equal(b, make([]byte, 5)) {
				t.Errorf("punched: %q", b)
			}
			must(t, unix.Fallocate(int(f.Fd()), 0, 0, far+4096))
			fi, err = f.Stat()
			must(t, err)
			if fi.Size() != far+4096 {
				t.Errorf("allocated: size %d", fi.Size())
			}
		}},
		{"copy_file_range", func(t *testing.T, guest, host string) {
			content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			must(t, os.WriteFile(guest+"/from", content, 0o644))
			from, err := os.Open(guest + "/from")
			must(t, err)
			defer from.Close()
			to, err := os.Create(guest + "/to")
			must(t, err)
			defer to.Close()
			for at := 0; at < len(content); {
				n, err := unix.CopyFileRange(int(from.Fd()), nil, int(to.Fd()), nil, len(content)-at, 0)
				must(t, err)
				at += n
			}
			wantContent(t, host+"/to", string(content))
		}},
		{"O_TMPFILE", func(t *testing.T, guest, _ string) {
			_, err := unix.Open(guest, unix.O_TMPFILE|unix.O_RDWR, 0o600)
			wantErrno(t, err, unix.EOPNOTSUPP)
		}},
		{"O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(guest+"/f", []byte("content"), 0o644))
			must(t, os.Symlink("f", guest+"/l"))
			_, err := unix.Open(guest+"/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
			wantErrno(t, err, unix.EEXIST)
			_, err = unix.Open(guest+"/l", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
			wantErrno(t, err, unix.EEXIST)
			_, err = unix.Open(guest+"/l", unix.O_RDONLY|unix.O_NOFOLLOW, 0)
			wantErrno(t, err, unix.ELOOP)
			_, err = unix.Open(guest+"/f", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			wantErrno(t, err, unix.ENOTDIR)
			fd, err := unix.Open(guest+"/f", unix.O_RDWR|unix.O_TRUNC, 0)
			must(t, err)
			_ = unix.Close(fd)
			wantContent(t, host+"/f", "")
		}},
		{"names", func(t *testing.T, guest, host string) {
			for _, name := range []string{"\xff\xfe\x80", "a\nb", " ", "-", "…", strings.Repeat("n", 255), "*?[", ".go-fuse-epoll"} {
				must(t, os.WriteFile(guest+"/"+name, []byte(name), 0o644))
				wantContent(t, host+"/"+name, name)
			}
			entries, err := os.ReadDir(guest)
			must(t, err)
			if len(entries) != 8 {
				t.Errorf("%d names", len(entries))
			}
			wantErrno(t, os.WriteFile(guest+"/"+strings.Repeat("n", 256), nil, 0o644), unix.ENAMETOOLONG)
		}},
		{"deep", func(t *testing.T, guest, host string) {
			dir, err := unix.Open(guest, unix.O_PATH|unix.O_DIRECTORY, 0)
			must(t, err)
			const depth = 300
			for range depth {
				must(t, unix.Mkdirat(dir, "deep-folder-name-20ch", 0o755))
				next, err := unix.Openat(dir, "deep-folder-name-20ch", unix.O_PATH|unix.O_DIRECTORY, 0)
				must(t, err)
				_ = unix.Close(dir)
				dir = next
			}
			fd, err := unix.Openat(dir, "f", unix.O_CREAT|unix.O_WRONLY, 0o644)
			must(t, err)
			_, _ = unix.Close(fd), unix.Close(dir)
			must(t, os.RemoveAll(guest+"/deep-folder-name-20ch"))
			if _, err := os.Stat(host + "/deep-folder-name-20ch"); !os.IsNotExist(err) {
				t.Error(err)
			}
		}},
		{"extended attributes", func(t *testing.T, guest, host string) {
			must(t, os.WriteFile(guest+"/f", nil, 0o644))
			if err := unix.Setxattr(host+"/f", "user.probe", nil, 0); err == unix.EOPNOTSUPP {
				t.Skip("the host's file system has none")
			}
			must(t, unix.Removexattr(host+"/f", "user.probe"))
			must(t, unix.Setxattr(guest+"/f", "user.one", []byte("1"), unix.XATTR_CREATE))
			wantErrno(t, unix.Setxattr(guest+"/f", "user.one", []byte("2"), unix.XATTR_CREATE), unix.EEXIST)
			for _, name := range []string{"security.capability", "trusted.x", "system.posix_acl_access", "other"} {
				wantErrno(t, unix.Setxattr(guest+"/f", name, []byte("1"), 0), unix.EOPNOTSUPP, unix.EPERM, unix.EINVAL)
				_, err := unix.Getxattr(guest+"/f", name, make([]byte, 10))
				wantErrno(t, err, unix.ENODATA, unix.EOPNOTSUPP)
			}
			b := make([]byte, 100)
			n, err := unix.Listxattr(guest+"/f", b)
			must(t, err)
			if string(b[:n]) != "user.one\x00" {
				t.Errorf("%q", b[:n])
			}
			n, err = unix.Getxattr(host+"/f", "user.one", b)
			must(t, err)
			if string(b[:n]) != "1" {
				t.Errorf("%q", b[:n])
			}
			must(t, unix.Removexattr(guest+"/f", "user.one"))
			_, err = unix.Getxattr(host+"/f", "user.one", b)
			wantErrno(t, err, unix.ENODATA)
		}},
		{"locks are the guest's", func(t *testing.T, guest, _ string) {
			must(t, os.WriteFile(guest+"/f", nil, 0o644))
			a, err := os.OpenFile(guest+"/f", os.O_RDWR, 0)
			must(t, err)
			defer a.Close()
			b, err := os.OpenFile(guest+"/f", os.O_RDWR, 0)
			must(t, err)
			defer b.Close()
			must(t, unix.Flock(int(a.Fd()), unix.LOCK_EX|unix.LOCK_NB))
			wantErrno(t, unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
			must(t, unix.Flock(int(a.Fd()), unix.LOCK_UN))
			lock := unix.Flock_t{Type: unix.F_WRLCK}
			must(t, unix.FcntlFlock(a.Fd(), unix.F_OFD_SETLK, &lock))
			wantErrno(t, unix.FcntlFlock(b.Fd(), unix.F_OFD_SETLK, &lock), unix.EAGAIN)
		}},
		{"sync", func(t *testing.T, guest, _ string) {
			f, err := os.Create(guest + "/f")
			must(t, err)
			defer f.Close()
			must(t, f.Sync())
			must(t, unix.Fdatasync(int(f.Fd())))
			d, err := os.Open(guest)
			must(t, err)
			defer d.Close()
			must(t, d.Sync())
			must(t, unix.Syncfs(int(d.Fd())))
		}},
		{"statfs", func(t *testing.T, guest, host string) {
			var a, b unix.Statfs_t
			must(t, unix.Statfs(guest, &a))
			must(t, unix.Statfs(host, &b))
			if a.Blocks*uint64(a.Frsize) != b.Blocks*uint64(b.Frsize) || a.Namelen != 255 {
				t.Errorf("%+v\n%+v", a, b)
			}
		}},
		{"rmdir", func(t *testing.T, guest, _ string) {
			must(t, os.MkdirAll(guest+"/d/e", 0o755))
			wantErrno(t, unix.Rmdir(guest+"/d"), unix.ENOTEMPTY)
			wantErrno(t, unix.Unlink(guest+"/d/e"), unix.EISDIR)
			must(t, unix.Rmdir(guest+"/d/e"))
			must(t, unix.Rmdir(guest+"/d"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := strings.Map(func(r rune) rune {
				if r == ' ' || r == ':' || r == ',' {
					return '-'
				}
				return r
			}, c.name)
			guest, host := filepath.Join(m.guest, name), filepath.Join(m.host, name)
			must(t, os.Mkdir(guest, 0o755))
			c.run(t, guest, host)
		})
	}
}

func wantContent(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s: %d bytes, %.60q; want %d bytes, %.60q", name, len(got), got, len(want), want)
	}
}

// eventually waits for something that may take as long as the guest believes what it knows, and longer on a busy machine.
func eventually(t *testing.T, true func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if true() {
			return
		}
	}
	t.Error("never happened")
}

func run(t *testing.T, dir string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return string(out)
}
