package share

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capsid/guest/link"
)

// save is what the host does in a snapshot, with the guest's use of the share stopped.
func (m *mounted) save() []byte {
	m.t.Helper()
	state, err := m.process.Save(m.t.Context())
	must(m.t, err)
	return state
}

// replace kills the share process, lets the host change things, and starts another one from state; the guest's stream breaks.
func (m *mounted) replace(state []byte, change func()) {
	m.t.Helper()
	m.mu.Lock()
	m.serves = nil
	m.mu.Unlock()
	kill(m.process)
	change()
	cfg := m.config
	cfg.State = state
	p, err := Start(m.t.Context(), cfg)
	must(m.t, err)
	m.process, m.others = p, append(m.others, p)
	m.mu.Lock()
	m.serves = m.process
	last := m.last
	m.mu.Unlock()
	_ = last.Close()
}

// restore is a snapshot and its restoring.
func (m *mounted) restore(change func()) {
	m.t.Helper()
	m.tell("freeze")
	m.replace(m.save(), change)
	m.tell("thaw")
}

// wantNoHandles waits until the server has nothing open: the guest's kernel tells of a close when it likes.
func (m *mounted) wantNoHandles() {
	m.t.Helper()
	eventually(m.t, func() bool {
		s, err := decode(m.save())
		must(m.t, err)
		return len(s.handles) == 0
	})
}

func kill(p *Process) {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	_ = p.command.Process.Kill()
	<-p.done
	_ = p.control.Close()
}

func wantRead(t *testing.T, f *os.File, offset int64, want string) {
	t.Helper()
	got := make([]byte, len(want)+10)
	n, err := f.ReadAt(got, offset)
	if err != nil && err != io.EOF || string(got[:n]) != want {
		t.Errorf("%s: %q %v, want %q", f.Name(), got[:n], err, want)
	}
}

// uncached makes the guest's kernel ask when it is read.
func uncached(t *testing.T, f *os.File) {
	t.Helper()
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

func TestOpenFilesGoOn(t *testing.T) {
	m := mount(t)
	open := func(name string, flags int, mode os.FileMode) *os.File {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(m.guest, name), flags, mode)
		must(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	for _, name := range []string{"stays", "deleted", "replaced", "renamed", "appended", "by-guest", "unlinked"} {
		must(t, os.WriteFile(filepath.Join(m.host, name), []byte("content of "+name), 0o644))
	}
	must(t, os.MkdirAll(filepath.Join(m.host, "dir", "below"), 0o755))
	must(t, os.WriteFile(filepath.Join(m.host, "dir", "below", "f"), []byte("deep"), 0o644))
	stays, deleted, replaced := open("stays", os.O_RDWR, 0), open("deleted", os.O_RDWR, 0), open("replaced", os.O_RDWR, 0)
	renamed, appended, unlinked := open("renamed", os.O_RDWR, 0), open("appended", os.O_WRONLY|os.O_APPEND, 0), open("unlinked", os.O_RDWR, 0)
	byGuest, early := open("by-guest", os.O_RDWR, 0), open("dir/below/f", os.O_RDWR, 0)
	locked := open("pack", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	first := make([]byte, 8)
	_, err := io.ReadFull(stays, first)
	must(t, err)
	must(t, os.Rename(filepath.Join(m.guest, "by-guest"), filepath.Join(m.guest, "dir", "moved")))
	must(t, os.Remove(filepath.Join(m.guest, "unlinked")))
	// The host moves what is open while the process holds it.
	must(t, os.Rename(filepath.Join(m.host, "dir", "below"), filepath.Join(m.host, "elsewhere")))

	m.tell("freeze")
	state := m.save()
	waiting := make(chan error, 2)
	go func() { waiting <- os.Mkdir(filepath.Join(m.guest, "asked while frozen"), 0o755) }()
	go func() {
		_, err := os.Stat(filepath.Join(m.guest, "no such thing"))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		waiting <- err
	}()
	m.replace(state, func() {
		must(t, os.Remove(filepath.Join(m.host, "deleted")))
		must(t, os.WriteFile(filepath.Join(m.host, "other"), []byte("of somebody else"), 0o644))
		must(t, os.Rename(filepath.Join(m.host, "other"), filepath.Join(m.host, "replaced")))
	})
	if lost := m.process.Lost(); lost != 3 {
		t.Errorf("%d handles are lost, want deleted, replaced and unlinked", lost)
	}
	if _, err := os.Stat(filepath.Join(m.host, "asked while frozen")); err == nil {
		t.Error("a frozen pump has sent a request")
	}
	m.tell("thaw")
	for range 2 {
		must(t, <-waiting)
	}
	rest, err := io.ReadAll(stays)
	must(t, err)
	if string(first)+string(rest) != "content of stays" {
		t.Errorf("%q and then %q", first, rest)
	}
	uncached(t, stays)
	wantRead(t, stays, 3, "tent of stays")
	for _, f := range []*os.File{deleted, replaced, unlinked} {
		uncached(t, f)
		_, err := f.ReadAt(first, 0)
		wantErrno(t, err, unix.ESTALE)
		_, err = f.WriteAt([]byte("x"), 0)
		wantErrno(t, err, unix.ESTALE)
	}
	wantContent(t, filepath.Join(m.host, "replaced"), "of somebody else")
	eventually(t, func() bool { // by its name it is the new file
		b, err := os.ReadFile(filepath.Join(m.guest, "replaced"))
		return err == nil && string(b) == "of somebody else"
	})
	for f, name := range map[*os.File]string{stays: "stays", renamed: "renamed", byGuest: "dir/moved", early: "elsewhere/f", locked: "pack"} {
		_, err := f.WriteAt([]byte("written to "+name), 0)
		must(t, err)
		must(t, f.Sync())
		if b, err := os.ReadFile(filepath.Join(m.host, name)); err != nil || !strings.HasPrefix(string(b), "written to "+name) {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	_, err = appended.WriteString(", and more")
	must(t, err)
	wantContent(t, filepath.Join(m.host, "appended"), "content of appended, and more")
	if fi, err := os.Stat(filepath.Join(m.host, "pack")); err != nil || fi.Mode().Perm() != 0o444 {
		t.Errorf("the mode of a file that had to be forced open: %v %v", fi.Mode(), err)
	}
	// Everything closes.
	for _, f := range []*os.File{stays, deleted, replaced, renamed, appended, unlinked, byGuest, early, locked} {
		must(t, f.Close())
	}
	m.wantNoHandles()
	m.restore(func() {}) // and once more
	wantContent(t, filepath.Join(m.guest, "appended"), "content of appended, and more")
	if lost := m.process.Lost(); lost != 0 {
		t.Errorf("%d handles are lost, of none", lost)
	}
}

// A folder that is listed while the server is replaced is listed whole, each name once.
func TestListingGoesOn(t *testing.T) {
	m := mount(t)
	const files = 3000
	for i := range files {
		must(t, os.WriteFile(filepath.Join(m.host, fmt.Sprintf("file-%04d", i)), nil, 0o644))
	}
	d, err := os.Open(m.guest)
	must(t, err)
	defer d.Close()
	seen := map[string]int{}
	for round := 0; ; round++ {
		names, err := d.Readdirnames(100)
		for _, name := range names {
			seen[name]++
		}
		if err == io.EOF {
			break
		}
		must(t, err)
		if round%8 == 3 {
			m.restore(func() {})
		}
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s: %d times", name, n)
		}
	}
	if len(seen) != files {
		t.Errorf("%d names", len(seen))
	}
}

// A shell stands in a folder, and thousands of files have been looked at.
func TestPlacesGoOn(t *testing.T) {
	m := mount(t)
	const folders, files = 40, 100
	name := func(root string, i, j int) string {
		return filepath.Join(root, fmt.Sprintf("d%d", i), "sub", fmt.Sprintf("f%d", j))
	}
	for i := range folders {
		must(t, os.MkdirAll(filepath.Dir(name(m.host, i, 0)), 0o755))
		for j := range files {
			must(t, os.WriteFile(name(m.host, i, j), []byte(fmt.Sprint(i, j)), 0o644))
		}
	}
	for i := range folders {
		for j := range files {
			_, err := os.Stat(name(m.guest, i, j))
			must(t, err)
		}
	}
	shell := exec.Command("sh", "-c", "while read line; do eval \"$line\"; done")
	shell.Dir = filepath.Join(m.guest, "d7", "sub")
	shell.Stderr = os.Stderr
	in, err := shell.StdinPipe()
	must(t, err)
	out, err := shell.StdoutPipe()
	must(t, err)
	must(t, shell.Start())
	answers := bufio.NewReader(out)
	ask := func(line, want string) {
		t.Helper()
		_, err := fmt.Fprintln(in, line)
		must(t, err)
		if got, err := answers.ReadString('\n'); err != nil || got != want+"\n" {
			t.Errorf("%s: %q %v", line, got, err)
		}
	}
	ask("cat f3; echo", "7 3")
	m.restore(func() {
		must(t, os.RemoveAll(filepath.Join(m.host, "d1")))
		must(t, os.Rename(filepath.Join(m.host, "d2"), filepath.Join(m.host, "moved")))
		must(t, os.Mkdir(filepath.Join(m.host, "d2"), 0o755))
		must(t, os.Rename(name(m.host, 3, 0), name(m.host, 3, 0)+"x"))
		must(t, os.Rename(name(m.host, 3, 1), name(m.host, 3, 0)))
	})
	ask("cat f4; echo; echo new > g", "7 4")
	ask("cat g; rm g", "new")
	ask("mkdir e; cd e; echo deeper > h; cat ../e/h", "deeper")
	wantContent(t, filepath.Join(m.host, "d7", "sub", "e", "h"), "deeper\n")
	must(t, in.Close())
	must(t, shell.Wait())
	for i := 4; i < folders; i++ {
		for j := range files {
			wantContent(t, name(m.guest, i, j), fmt.Sprint(i, j))
		}
	}
	eventually(t, func() bool {
		_, gone := os.ReadFile(name(m.guest, 1, 0))
		_, other := os.ReadFile(name(m.guest, 2, 0))
		b, err := os.ReadFile(name(m.guest, 3, 0))
		c, errMoved := os.ReadFile(filepath.Join(m.guest, "moved", "sub", "f5"))
		return errors.Is(gone, fs.ErrNotExist) && errors.Is(other, fs.ErrNotExist) && err == nil && string(b) == "3 1" && errMoved == nil && string(c) == "2 5"
	})
}

// lossy is a link whose answers are lost from some moment on, a message cut in two perhaps.
type lossy struct {
	link.Conn
	left atomic.Int64 // bytes that still arrive; negative: all
}

func (l *lossy) Write(b []byte) (int, error) {
	left := l.left.Load()
	if left < 0 {
		return l.Conn.Write(b)
	}
	some := min(int64(len(b)), left)
	l.left.Add(-some)
	if _, err := l.Conn.Write(b[:some]); err != nil {
		return 0, err
	}
	return len(b), nil
}

// TestNothingTwice replaces the server, or breaks the stream to it, at random moments while programs change files as fast as they can. Each change would fail, or show, if it were made
// twice or never. Before the server is replaced the pump is frozen; a stream breaks with requests under way, and their answers are lost.
func TestNothingTwice(t *testing.T) {
	m := mount(t)
	var stop atomic.Bool
	var programs sync.WaitGroup
	var changes atomic.Int64
	for w := range 6 {
		dir := filepath.Join(m.guest, fmt.Sprint(w))
		must(t, os.Mkdir(dir, 0o755))
		programs.Go(func() {
			if err := changeAway(dir, &stop, &changes); err != nil {
				t.Errorf("program %d: %v", w, err)
				stop.Store(true)
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	const rounds = 60
	for round := range rounds {
		before := changes.Load()
		for wanted := before + int64(random.IntN(60)); changes.Load() <= wanted && !stop.Load(); time.Sleep(time.Millisecond) {
		}
		if round%2 == 0 {
			m.restore(func() {})
			continue
		}
		m.mu.Lock()
		m.lossy.left.Store(int64(random.IntN(200)))
		m.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond) // requests whose answers are lost, some or none
		m.mu.Lock()
		last := m.last
		m.mu.Unlock()
		_ = last.Close()
	}
	stop.Store(true)
	programs.Wait()
	t.Logf("%d changes, %d servers, %d broken streams", changes.Load(), rounds/2, rounds/2)
	// Nothing is left open, and nothing is known that the guest has forgotten.
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.process.command.Process.Pid))
	must(t, err)
	if len(fds) > 100 {
		t.Errorf("%d descriptors in the share process", len(fds))
	}
	m.wantNoHandles()
}

// changeAway makes changes in dir that can be made once.
func changeAway(dir string, stop *atomic.Bool, changes *atomic.Int64) error {
	in := func(name string, i int) string { return filepath.Join(dir, fmt.Sprintf("%s%d", name, i)) }
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	var want strings.Builder
	for i := 0; !stop.Load(); i++ {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		for _, change := range []func() error{
			func() error { return os.Mkdir(in("d", i), 0o755) },
			func() error {
				f, err := os.OpenFile(in("f", i), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
				if err == nil {
					_, err = f.WriteString("text")
					err = errors.Join(err, f.Close())
				}
				return err
			},
			func() error { _, err := log.WriteString(line); return err },
			func() error { return os.Rename(in("f", i), in("g", i)) },
			func() error { return os.Link(in("g", i), in("h", i)) },
			func() error { return os.Symlink("x", in("s", i)) },
			func() error { return os.Remove(in("g", i)) },
			func() error { return os.Remove(in("s", i)) },
			func() error { return os.Remove(in("h", i)) },
			func() error { return os.Remove(in("d", i)) },
		} {
			if err := change(); err != nil {
				return err
			}
			changes.Add(1)
		}
	}
	got, err := os.ReadFile(log.Name())
	if err == nil && string(got) != want.String() {
		err = fmt.Errorf("the log has %d bytes, not %d", len(got), want.Len())
	}
	return err
}

// A host that does not answer keeps the pump from being frozen, and nothing else.
func TestFreezeGivesUp(t *testing.T) {
	m := mount(t)
	must(t, m.process.command.Process.Signal(unix.SIGSTOP))
	m.tell("fail to freeze")
	must(t, m.process.command.Process.Signal(unix.SIGCONT))
	must(t, os.Mkdir(filepath.Join(m.guest, "d"), 0o755))
	m.restore(func() {})
	must(t, os.Remove(filepath.Join(m.guest, "d")))
}

// A state that is damaged is refused, and says why.
func TestDamagedState(t *testing.T) {
	m := mount(t)
	state := m.save()
	state[len(state)/2] ^= 1
	cfg := m.config
	cfg.State = state
	if p, err := Start(t.Context(), cfg); !strings.Contains(fmt.Sprint(err), errState.Error()) {
		t.Errorf("%v", err)
		if err == nil {
			_ = p.Close()
		}
	}
}

// Without a process to go on with, the mount ends as it always did.
func TestProcessIsLost(t *testing.T) {
	m := mount(t)
	kill(m.process)
	eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(m.guest, "x"))
		return errors.Is(err, unix.ENOTCONN)
	})
	m.lost = true
}
