package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// screen is a terminal with a program in it, as a person has it.
type screen struct {
	t   *testing.T
	pty *os.File
	cmd *exec.Cmd

	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{}
}

func openScreen(t *testing.T, vars map[string]string, args ...string) *screen {
	t.Helper()
	cmd := exec.Command("capsid", args...)
	cmd.Env = os.Environ()
	for k, v := range vars {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	p, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 90, Rows: 30})
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, pty: p, cmd: cmd, more: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := p.Read(buf)
			s.mu.Lock()
			s.seen.Write(buf[:n])
			s.mu.Unlock()
			select {
			case s.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		p.Close()
	})
	return s
}

// until waits for text that matches, after what was there at the last call.
func (s *screen) until(pattern string) string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(60 * time.Second)
	for {
		s.mu.Lock()
		text := s.seen.String()
		if at := re.FindStringIndex(text); at != nil {
			s.seen.Reset()
			s.seen.WriteString(text[at[1]:])
			s.mu.Unlock()
			return text[:at[1]]
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-limit:
			s.t.Fatalf("no %q in %q", pattern, text)
		}
	}
}

func (s *screen) typed(text string) {
	s.t.Helper()
	if _, err := s.pty.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) status() int {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case <-done:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(60 * time.Second):
		s.t.Fatal("the program does not end")
		return -1
	}
}

// lineMode reports whether the terminal is as a shell wants it.
func (s *screen) lineMode() bool {
	s.t.Helper()
	out, err := exec.Command("stty", "-F", ptyName(s.t, s.pty), "-a").CombinedOutput()
	if err != nil {
		s.t.Fatalf("stty: %v: %s", err, out)
	}
	return regexp.MustCompile(`(^|\s)icanon(\s|$)`).Match(out)
}

func ptyName(t *testing.T, p *os.File) string {
	t.Helper()
	n, err := unix.IoctlGetInt(int(p.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/dev/pts/%d", n)
}

func TestAttach(t *testing.T) {
	needMachine(t)
	shared.once.Do(shared.start)
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	s := openScreen(t, shared.vars, "attach", "shared")
	s.until(`ctrl-\] leaves it running`)
	s.typed("stty size; echo mark-$((40+2))\r")
	if text := s.until(`mark-42`); !strings.Contains(text, "30 90") {
		t.Errorf("the size did not arrive: %q", text)
	}
	if s.lineMode() {
		t.Error("the terminal is not raw")
	}
	if err := pty.Setsize(s.pty, &pty.Winsize{Cols: 71, Rows: 23}); err != nil {
		t.Fatal(err)
	}
	s.typed("until stty size | grep '23 71'; do sleep 0.1; done; echo resized-$((1+1))\r")
	s.until(`resized-2`)
	s.typed("printf '\\033[?1049h\\033[?1000h'; echo modes-$((2+2))\r")
	s.until(`modes-4`)
	s.typed("\x1d")
	after := s.until(`Detached; shared goes on. Come back with: capsid attach shared`)
	for _, undone := range []string{"\x1b[?1049l", "\x1b[?1000l"} {
		if !strings.Contains(after, undone) {
			t.Errorf("%q was not undone in %q", undone, after)
		}
	}
	if code := s.status(); code != 0 {
		t.Errorf("status %d after detaching", code)
	}
	if !s.lineMode() {
		t.Error("the terminal was left raw")
	}

	// What was on the screen comes back; a signal leaves the terminal in order too.
	s = openScreen(t, shared.vars, "attach", "shared")
	s.until(`modes-4`)
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.until(`interrupted; the session goes on`)
	if s.status() == 0 || !s.lineMode() {
		t.Error("a signal did not end it in order")
	}

	// The program's status is ours; the next attach starts it anew.
	s = openScreen(t, shared.vars, "attach", "shared")
	s.until(`modes-4`)
	s.typed("exit 9\r")
	s.until(`The program ended with status 9`)
	if code := s.status(); code != 9 {
		t.Errorf("status %d", code)
	}
	s = openScreen(t, shared.vars, "attach", "shared")
	s.until(`\$ `)
	s.typed("echo again-$((3+3))\r")
	s.until(`again-6`)
	s.typed("\x1b[93;5u") // ctrl-], as the kitty keyboard protocol says it
	s.until(`Detached`)
	if code := s.status(); code != 0 {
		t.Errorf("status %d", code)
	}

	// run has a terminal where we have one.
	s = openScreen(t, shared.vars, "run", "shared", "--", "sh", "-c", "stty size; test -t 1 && exit 6")
	s.until(`30 90`)
	if code := s.status(); code != 6 {
		t.Errorf("run: status %d", code)
	}
}

// TestInterruptedNew presses ctrl-C in each step of a session's start, and wants nothing left of it.
func TestInterruptedNew(t *testing.T) {
	needMachine(t)
	for i, step := range []string{"", "check image", "workspace", "start machine", "boot"} {
		t.Run("after "+step, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "cap")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			vars, err := dirs(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := linkImages(func(k string) string { return vars[k] }); err != nil {
				t.Fatal(err)
			}
			work := filepath.Join(dir, "work")
			if err := os.Mkdir(work, 0o755); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("interrupted-%d-%d", os.Getpid(), i)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "capsid", "new", "shell", work, "--name", name, "--detach", "--memory", "1GiB", "--cpus", "1")
			cmd.Env = os.Environ()
			for k, v := range vars {
				cmd.Env = append(cmd.Env, k+"="+v)
			}
			said := &waiting{found: make(chan struct{}), word: step}
			cmd.Stderr = said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if step == "" {
				awaitFolder(ctx, t, filepath.Join(vars["XDG_STATE_HOME"], "capsid/sessions"))
			} else {
				select {
				case <-said.found:
				case <-ctx.Done():
					t.Fatalf("it never got to %q: %s", step, said)
				}
			}
			cmd.Process.Signal(os.Interrupt)
			if err := cmd.Wait(); err == nil {
				t.Error("it went on as if nothing had happened")
			}
			if !strings.Contains(said.String(), "interrupted; nothing of the session is left") {
				t.Errorf("it said %q", said)
			}
			if left := leftovers(vars["XDG_STATE_HOME"], vars["XDG_RUNTIME_DIR"]); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if !noMachine(name, 10*time.Second) {
				t.Errorf("its machine still runs: %v", machineOf(name))
			}
		})
	}
}

// awaitFolder waits until a session's folder is there.
func awaitFolder(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	for ctx.Err() == nil {
		entries, _ := os.ReadDir(dir)
		if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".") }) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no session came")
}

// waiting keeps what is written and tells when a word came.
type waiting struct {
	mu    sync.Mutex
	text  bytes.Buffer
	word  string
	found chan struct{}
	once  sync.Once
}

func (w *waiting) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if w.word != "" && strings.Contains(w.text.String(), w.word) {
		w.once.Do(func() { close(w.found) })
	}
	return len(p), nil
}

func (w *waiting) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
