package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"capsid/app/backend"
	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/guest/image"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == vmmServe {
		os.Exit(Main(os.Args[1:])) // the kvm backend runs this program by another name
	}
	testscript.Main(runner{m}, map[string]func(){"capsid": func() { os.Exit(Main(os.Args[1:])) }})
}

// runner ends what the tests share after the last of them.
type runner struct{ m *testing.M }

func (r runner) Run() int {
	defer shared.end()
	return r.m.Run()
}

// TestScripts runs what needs no machine.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script/*.txtar") }

// TestMachineScripts runs what needs one; most share a session.
func TestMachineScripts(t *testing.T) {
	needMachine(t)
	runScripts(t, "testdata/machine/*.txtar")
}

func runScripts(t *testing.T, glob string) {
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s (%v)", glob, err)
	}
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"session":   cmdSession,
			"fake":      cmdFake,
			"tinyfs":    cmdTinyfs,
			"asnobody":  cmdAsNobody,
			"flip":      cmdFlip,
			"hold":      cmdHold,
			"gone":      cmdGone,
			"superkill": cmdSuperkill,
			"nothing":   cmdNothing,
			"keep":      cmdKeep,
			"damage":    cmdDamage,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "image":
				_, err := realImage()
				return err == nil, nil
			case "kvm", "soft":
				_, err := backend.Choose(context.Background(), backend.All(), cond)
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// needMachine skips where no machine can start; with CAPSID_BIN set, as make test does, that is a failure.
func needMachine(t *testing.T) {
	t.Helper()
	var why string
	if _, err := realImage(); err != nil {
		why = err.Error()
	} else if _, err := backend.Choose(context.Background(), backend.All(), ""); err != nil {
		why = err.Error()
	} else if testing.Short() {
		t.Skip("short")
	}
	if why == "" {
		return
	}
	if os.Getenv("CAPSID_BIN") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func realImage() (*image.Image, error) {
	root, err := image.DefaultRoot()
	if err != nil {
		return nil, err
	}
	return image.Latest(root)
}

// dirs makes the folders of one person below dir, whose path must be short: sockets lie in it.
func dirs(dir string) (map[string]string, error) {
	env := map[string]string{}
	for name, sub := range map[string]string{"XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r", "XDG_CONFIG_HOME": "c", "XDG_DATA_HOME": "d", "HOME": "home"} {
		env[name] = filepath.Join(dir, sub)
		if err := os.MkdirAll(env[name], 0o700); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// linkImages makes the real images those of the person in env.
func linkImages(env func(string) string) error {
	root, err := image.DefaultRoot()
	if err != nil {
		return err
	}
	data := filepath.Join(env("XDG_DATA_HOME"), "capsid")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	err = os.Symlink(root, filepath.Join(data, "images"))
	if os.IsExist(err) {
		return nil
	}
	return err
}

func setup(env *testscript.Env) error {
	// Not below $WORK: its path is too long for sockets. The workspaces of sessions are.
	dir, err := os.MkdirTemp("", "cap")
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(dir) })
	vars, err := dirs(dir)
	if err != nil {
		return err
	}
	for k, v := range vars {
		env.Setenv(k, v)
	}
	// A secret of the host's, which no session may see.
	env.Setenv("HOST_SECRET", "hunter2")
	env.Setenv("TERM", "xterm-256color")
	return nil
}

// sharedSession is the one that scripts use which do not end it.
type sharedSession struct {
	once sync.Once
	dir  string
	vars map[string]string
	st   session.Status
	err  error
}

var shared sharedSession

func (s *sharedSession) start() {
	if s.dir, s.err = os.MkdirTemp("", "cap"); s.err != nil {
		return
	}
	if s.vars, s.err = dirs(s.dir); s.err != nil {
		return
	}
	if s.err = linkImages(func(k string) string { return s.vars[k] }); s.err != nil {
		return
	}
	work := filepath.Join(s.dir, "work")
	if s.err = os.Mkdir(work, 0o755); s.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var store *session.Store
	if store, s.err = s.store(); s.err != nil {
		return
	}
	var exe string
	if exe, s.err = exec.LookPath("capsid"); s.err != nil {
		return
	}
	s.st, s.err = store.Start(ctx, session.StartOptions{Agent: "shell", Name: "shared", Workspace: work, Executable: exe}, nil)
}

func (s *sharedSession) store() (*session.Store, error) {
	p := session.Paths{Corp: "/etc/capsid/corp.toml"}
	p.State, p.Runtime = filepath.Join(s.vars["XDG_STATE_HOME"], "capsid"), filepath.Join(s.vars["XDG_RUNTIME_DIR"], "capsid")
	p.Data, p.Config = filepath.Join(s.vars["XDG_DATA_HOME"], "capsid"), filepath.Join(s.vars["XDG_CONFIG_HOME"], "capsid")
	return session.OpenStore(p)
}

func (s *sharedSession) end() {
	if s.dir == "" {
		return
	}
	if s.st.ID != "" {
		if store, err := s.store(); err == nil {
			store.Remove(s.st.ID, true)
		}
	}
	os.RemoveAll(s.dir)
}

// session makes the shared session this script's: "session" sets $ID, $WORKSPACE and the folders.
func cmdSession(ts *testscript.TestScript, neg bool, args []string) {
	shared.once.Do(shared.start)
	ts.Check(shared.err)
	for k, v := range shared.vars {
		ts.Setenv(k, v)
	}
	ts.Setenv("ID", shared.st.ID)
	ts.Setenv("WORKSPACE", shared.st.Workspace)
}

// fake makes the folder of a session without a supervisor: "fake ID NAME STATE [ID/SNAPSHOT]", the last being what it came from. One that has ended has a disk. "fake images" links the
// real images.
func cmdFake(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 1 && args[0] == "images" {
		ts.Check(linkImages(ts.Getenv))
		return
	}
	if len(args) < 3 {
		ts.Fatalf("usage: fake ID NAME STATE [ID/SNAPSHOT]")
	}
	dir := filepath.Join(ts.Getenv("XDG_STATE_HOME"), "capsid", "sessions", args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	st := session.Status{Session: session.Session{ID: args[0], Name: args[1], Agent: "shell", Backend: "soft", Created: time.Now()}, State: session.State(args[2]), PID: 1, Started: time.Now()}
	if len(args) == 4 {
		st.Parent = refOf(args[3])
	}
	if st.State == session.Suspended {
		st.Suspended = "suspended-1"
	}
	ts.Check(session.WriteJSON(filepath.Join(dir, "session.json"), st.Session))
	ts.Check(session.WriteJSON(filepath.Join(dir, "status.json"), st))
	ts.Check(os.WriteFile(filepath.Join(dir, "lock"), []byte("1\n"), 0o600))
	if st.State == session.Stopped || st.State == session.Suspended {
		bottom, err := snapshot.NewDisk(dir)
		ts.Check(err)
		ts.Check(os.WriteFile(bottom, make([]byte, 1<<20), 0o600))
	}
}

func refOf(text string) *snapshot.Ref {
	id, name, _ := strings.Cut(text, "/")
	return &snapshot.Ref{Session: id, Snapshot: name}
}

// keep makes a snapshot with 1 MiB of memory, which is its own, and the disk of a session that fake made: "keep ID/NAME [NOTE] [ID/SNAPSHOT]", the last being what it came from.
func cmdKeep(ts *testscript.TestScript, neg bool, args []string) {
	ref := refOf(args[0])
	home := filepath.Join(ts.Getenv("XDG_STATE_HOME"), "capsid", "sessions", ref.Session)
	draft, err := snapshot.New(snapshot.Folder(home), ref.Snapshot)
	ts.Check(err)
	defer draft.Abort()
	layers, err := snapshot.Layers(home)
	ts.Check(err)
	names, err := snapshot.LinkLayers(context.Background(), draft.Dir(), "disk", layers...)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(draft.Dir(), "ram"), make([]byte, 1<<20), 0o600))
	m := snapshot.Manifest{Session: session.Session{ID: ref.Session, Name: "kept"}, Backend: "soft", Kind: snapshot.Memory, Disks: [][]string{names}}
	if len(args) > 1 {
		m.Note = args[1]
	}
	if len(args) > 2 {
		m.Parent = refOf(args[2])
	}
	_, err = draft.Commit(context.Background(), m, nil)
	ts.Check(err)
}

// damage cuts a file of a snapshot short: "damage ID/NAME".
func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	ref := refOf(args[0])
	ts.Check(os.Truncate(filepath.Join(ts.Getenv("XDG_STATE_HOME"), "capsid", "sessions", ref.Session, "snapshots", ref.Snapshot, "ram"), 1000))
}

// tinyfs mounts a file system of 4 MiB on a folder.
func cmdTinyfs(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=700"))
	ts.Defer(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// asnobody runs capsid as the user nobody, with folders of its own: "asnobody ARGS". Its output goes to the files nobody.out and nobody.err.
func cmdAsNobody(ts *testscript.TestScript, neg bool, args []string) {
	dir, err := os.MkdirTemp("", "nob")
	ts.Check(err)
	ts.Defer(func() { os.RemoveAll(dir) })
	vars, err := dirs(dir)
	ts.Check(err)
	path, err := exec.LookPath("capsid")
	ts.Check(err)
	exe := filepath.Join(dir, "capsid")
	in, err := os.Open(path)
	ts.Check(err)
	defer in.Close()
	out, err := os.OpenFile(exe, os.O_CREATE|os.O_WRONLY, 0o755)
	ts.Check(err)
	_, err = io.Copy(out, in)
	ts.Check(err)
	ts.Check(out.Close())
	const nobody = 65534
	ts.Check(filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(p, nobody, nobody)
	}))
	cmd := exec.Command(exe, args...)
	cmd.Dir = "/"
	for k, v := range vars {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	said, err := cmd.CombinedOutput()
	ts.Logf("[nobody] %s", said)
	ts.Check(os.WriteFile(ts.MkAbs("nobody.out"), said, 0o644))
	if (err != nil) != neg {
		ts.Fatalf("capsid as nobody: %v", err)
	}
}

// flip copies the newest real image to this script's person, with one byte of a file flipped: "flip FILE".
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	img, err := realImage()
	ts.Check(err)
	dir := filepath.Join(ts.Getenv("XDG_DATA_HOME"), "capsid", "images", img.Digest)
	ts.Check(os.MkdirAll(dir, 0o700))
	entries, err := os.ReadDir(img.Dir)
	ts.Check(err)
	for _, e := range entries {
		from, to := filepath.Join(img.Dir, e.Name()), filepath.Join(dir, e.Name())
		if e.Name() != args[0] {
			// Plain files are wanted, and the images may lie on another file system.
			if os.Link(from, to) == nil {
				continue
			}
		}
		data, err := os.ReadFile(from)
		ts.Check(err)
		if e.Name() == args[0] {
			data[len(data)/2] ^= 1
		}
		ts.Check(os.WriteFile(to, data, 0o600))
	}
}

// hold locks the folder of images as a build does, until the script ends.
func cmdHold(ts *testscript.TestScript, neg bool, args []string) {
	dir := filepath.Join(ts.Getenv("XDG_DATA_HOME"), "capsid", "images")
	ts.Check(os.MkdirAll(dir, 0o700))
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	ts.Check(err)
	ts.Check(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	ts.Defer(func() { f.Close() })
}

// machineOf returns the processes that are the machine of the named session.
func machineOf(name string) []int {
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(line), "\x00capsid "+name+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone waits until no machine of the named session runs: "gone NAME". "! gone NAME" wants one.
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		if len(machineOf(args[0])) == 0 {
			ts.Fatalf("no machine of %s runs", args[0])
		}
		return
	}
	if !noMachine(args[0], 20*time.Second) {
		ts.Fatalf("a machine of %s still runs: %v", args[0], machineOf(args[0]))
	}
}

// noMachine waits for a machine to be gone. The kernel tells only parents of the end of a process, and we are not its.
func noMachine(name string, limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if len(machineOf(name)) == 0 {
			return true
		}
	}
	return false
}

// superkill kills a session's supervisor as the kernel's OOM killer does: "superkill NAME".
func cmdSuperkill(ts *testscript.TestScript, neg bool, args []string) {
	files, err := filepath.Glob(filepath.Join(ts.Getenv("XDG_STATE_HOME"), "capsid/sessions/*/session.json"))
	ts.Check(err)
	for _, f := range files {
		data, err := os.ReadFile(f)
		ts.Check(err)
		if !strings.Contains(string(data), `"name": "`+args[0]+`"`) {
			continue
		}
		lock, err := os.ReadFile(filepath.Join(filepath.Dir(f), "lock"))
		ts.Check(err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(lock)))
		ts.Check(err)
		fd, err := unix.PidfdOpen(pid, 0)
		ts.Check(err)
		defer unix.Close(fd)
		ts.Check(unix.Kill(pid, unix.SIGKILL))
		// Readable once it has ended, when its files are closed and its lock is free: pidfd_open(2).
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		for err == unix.EINTR {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		}
		ts.Check(err)
		if n == 0 {
			ts.Fatalf("process %d does not end", pid)
		}
		return
	}
	ts.Fatalf("no session %s", args[0])
}

// nothing wants that no session, half or whole, and no socket is there.
func cmdNothing(ts *testscript.TestScript, neg bool, args []string) {
	if left := leftovers(ts.Getenv("XDG_STATE_HOME"), ts.Getenv("XDG_RUNTIME_DIR")); len(left) > 0 {
		ts.Fatalf("left behind: %s", strings.Join(left, ", "))
	}
}

func leftovers(state, run string) []string {
	var left []string
	for _, dir := range []string{filepath.Join(state, "capsid/sessions"), filepath.Join(run, "capsid")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			// Which image was verified is known for as long as the computer runs.
			if e.Name() != ".lock" && !strings.HasPrefix(e.Name(), "verified-") {
				left = append(left, filepath.Join(dir, e.Name()))
			}
		}
	}
	return left
}
