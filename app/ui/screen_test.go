package ui

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience only ends tests that hang: machines in emulation are slow, and so is a computer that does other things too.
const patience = 5 * time.Minute

// screen is an X server of the test's own with a window manager, and the desktop program on it, used with a real pointer and keyboard.
type screen struct {
	t       *testing.T
	env     []string
	desktop *exec.Cmd
	gone    chan error
	probe   string
	window  string
	socket  net.Conn
	answers *bufio.Reader
	said    *bytes.Buffer
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: packaging/deps.sh test installs it", p)
		}
	}
}

// newScreen starts an X server on a display that nobody else has.
func newScreen(t *testing.T, env []string) *screen {
	t.Helper()
	need(t, "Xvfb", "openbox", "xdotool", "import", "xprop")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	x := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1440x900x24", "-nolisten", "tcp")
	x.ExtraFiles = []*os.File{w}
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		x.Process.Signal(syscall.SIGTERM)
		x.Wait()
	})
	number, err := bufio.NewReader(r).ReadString('\n')
	r.Close()
	if err != nil {
		t.Fatalf("Xvfb did not start: %v", err)
	}
	s := &screen{t: t, env: append(env, "DISPLAY=:"+strings.TrimSpace(number), "LIBGL_ALWAYS_SOFTWARE=1")}
	wm := s.command("openbox")
	if err := wm.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		wm.Process.Kill()
		wm.Wait()
	})
	s.until("the window manager is there", func() bool {
		out, _ := s.command("xprop", "-root", "_NET_SUPPORTING_WM_CHECK").Output()
		return bytes.Contains(out, []byte("window id"))
	})
	return s
}

func (s *screen) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = s.env
	return cmd
}

// open starts the desktop and waits for its window.
func (s *screen) open(program, dir string) {
	s.t.Helper()
	s.probe = filepath.Join(dir, "probe.sock")
	os.Remove(s.probe)
	s.said = &bytes.Buffer{}
	cmd := s.command(program)
	cmd.Env = append(cmd.Env, "CAPSID_UI_PROBE="+s.probe)
	cmd.Stdout, cmd.Stderr = s.said, s.said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.desktop, s.gone = cmd, make(chan error, 1)
	gone := s.gone
	go func() { gone <- cmd.Wait() }()
	s.t.Cleanup(func() { cmd.Process.Kill() })
	s.until("the desktop answers", func() bool {
		conn, err := net.Dial("unix", s.probe)
		if err != nil {
			return false
		}
		s.socket, s.answers = conn, bufio.NewReaderSize(conn, 1<<20)
		return true
	})
	s.until("the window is on the screen", func() bool {
		out, err := s.command("xdotool", "search", "--onlyvisible", "--class", "Capsid").Output()
		ids := strings.Fields(string(out))
		if err != nil || len(ids) == 0 {
			return false
		}
		s.window = ids[len(ids)-1]
		return true
	})
	s.run("windowactivate", "--sync", s.window)
}

func (s *screen) run(args ...string) {
	s.t.Helper()
	if out, err := s.command("xdotool", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("xdotool %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// elements is what the window shows now.
func (s *screen) elements() []Element {
	s.t.Helper()
	s.socket.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s.socket, "\n"); err != nil {
		s.t.Fatalf("the desktop is gone: %v\n%s", err, s.said)
	}
	line, err := s.answers.ReadBytes('\n')
	if err != nil {
		s.t.Fatalf("the desktop is gone: %v\n%s", err, s.said)
	}
	var list []Element
	if err := json.Unmarshal(line, &list); err != nil {
		s.t.Fatal(err)
	}
	return list
}

func (s *screen) find(role, prefix string) (Element, bool) {
	for _, e := range s.elements() {
		if e.Role == role && strings.HasPrefix(e.Name, prefix) && !e.Off {
			return e, true
		}
	}
	return Element{}, false
}

// await waits until the window shows an element.
func (s *screen) await(role, prefix string) Element {
	s.t.Helper()
	var found Element
	s.until(fmt.Sprintf("there is a %s %q", role, prefix), func() bool {
		e, ok := s.find(role, prefix)
		found = e
		return ok
	})
	return found
}

// click clicks an element by its name, where it is once it stands still.
func (s *screen) click(role, prefix string) Element {
	s.t.Helper()
	e := s.await(role, prefix)
	s.until(e.Name+" stands still", func() bool {
		now, ok := s.find(role, prefix)
		still := ok && now.X == e.X && now.Y == e.Y
		if ok {
			e = now
		}
		return still
	})
	s.run("mousemove", "--window", s.window, strconv.Itoa(e.X+e.Width/2), strconv.Itoa(e.Y+e.Height/2), "click", "1")
	return e
}

func (s *screen) key(keys ...string) {
	s.t.Helper()
	s.run(append([]string{"key", "--delay", "30"}, keys...)...)
}

func (s *screen) write(text string) { s.t.Helper(); s.run("type", "--delay", "25", text) }

// terminal is the text of the terminal in front.
func (s *screen) terminal() string {
	for _, e := range s.elements() {
		if e.Role == "terminal" {
			return e.Name
		}
	}
	return ""
}

// reads waits until the terminal in front shows a text, wherever its lines are broken.
func (s *screen) reads(text string) {
	s.t.Helper()
	s.until(fmt.Sprintf("the terminal shows %q", text), func() bool {
		return strings.Contains(strings.Join(strings.Fields(s.terminal()), " "), text)
	})
}

// until asks until something is so.
func (s *screen) until(what string, is func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(deadline) {
			s.shoot("failed")
			s.t.Fatalf("it did not happen that %s; the window shows\n%s\nthe desktop said: %s", what, s.describe(), s.said)
		}
		select {
		case err := <-s.gone:
			s.t.Fatalf("the desktop ended: %v\n%s", err, s.said)
		case <-tick.C:
		}
	}
}

func (s *screen) describe() string {
	if s.socket == nil {
		return "nothing"
	}
	var b strings.Builder
	for _, e := range s.elements() {
		fmt.Fprintf(&b, "%s %q at %d,%d\n", e.Role, e.Name, e.X, e.Y)
	}
	return b.String()
}

// shoot takes a picture of the window: for the README where CAPSID_PICTURES is set, and of a failure into CAPSID_FAILURES if that names a folder.
func (s *screen) shoot(name string) {
	dir := ""
	switch {
	case name == "failed":
		dir = os.Getenv("CAPSID_FAILURES")
	case pictures():
		dir = filepath.Join("..", "..", "assets", "pictures")
		// What the probe tells is drawn in the next frame, and nothing says when a frame is on the screen.
		time.Sleep(time.Second)
	}
	if dir == "" || s.window == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Error(err)
		return
	}
	if out, err := s.command("import", "-window", s.window, "-strip", filepath.Join(dir, name+".png")).CombinedOutput(); err != nil {
		s.t.Errorf("take a picture: %v: %s", err, out)
	}
}

// pictures reports whether the README's pictures are wanted.
func pictures() bool { return os.Getenv("CAPSID_PICTURES") == "1" }

// ends waits until the desktop has ended and returns how.
func (s *screen) ends() error {
	s.t.Helper()
	select {
	case err := <-s.gone:
		s.socket.Close()
		s.window = ""
		return err
	case <-time.After(patience):
		s.t.Fatal("the desktop does not end")
		return nil
	}
}
