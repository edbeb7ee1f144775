//go:build linux

package reap

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const inside = "CAPSID_TEST_INSIDE"

// subreaper runs the test that calls it in a process that inherits orphans, as the first process of a machine does. It is false in the outer one.
func subreaper(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func shell(t *testing.T, r *Reaper, script string) *Process {
	t.Helper()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := r.Start(Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: os.Environ(), Files: []*os.File{null, null, null},
		Attr: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func await(t *testing.T, p *Process) int {
	t.Helper()
	select {
	case <-p.Done():
		return p.Code()
	case <-time.After(time.Minute):
		t.Fatalf("process %d does not end", p.PID)
		return 0
	}
}

func TestStatuses(t *testing.T) {
	if !subreaper(t) {
		return
	}
	testStatuses(t, "orphans", New(true))
}

func TestStatusesOfKnown(t *testing.T) { testStatuses(t, "known", New(false)) }

func testStatuses(t *testing.T, name string, r *Reaper) {
	t.Helper()
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -KILL $$": 137, "kill -TERM $$": 143} {
		if got := await(t, shell(t, r, script)); got != want {
			t.Errorf("%s: %q: got %d, want %d", name, script, got, want)
		}
	}
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			if got := await(t, shell(t, r, "exit "+string(rune('0'+i%10)))); got != i%10 {
				t.Errorf("%s: got %d, want %d", name, got, i%10)
			}
		})
	}
	all.Wait()
	p := shell(t, r, "sleep 100")
	p.SignalGroup(syscall.SIGUSR1)
	if await(t, p); p.KilledBy() != syscall.SIGUSR1 {
		t.Errorf("%s: killed by %v", name, p.KilledBy())
	}
	p.SignalGroup(syscall.SIGKILL) // nothing is there any more, and nobody else may get it
	if !r.Idle(time.Minute) {
		t.Errorf("%s: not idle", name)
	}
	if _, err := r.Start(Command{Path: "/no/such/program", Args: []string{"x"}, Attr: &syscall.SysProcAttr{}}); err == nil {
		t.Errorf("%s: started what is not there", name)
	}
}

func TestOrphans(t *testing.T) {
	if !subreaper(t) {
		return
	}
	r := New(true)
	// The shell ends at once; its grandchildren become ours, end while others start, and must leave no zombie.
	for range 10 {
		if got := await(t, shell(t, r, "(sleep 0.2 & (exit 3) & sleep 0.1 & ) ; exit 5")); got != 5 {
			t.Errorf("got %d, want 5", got)
		}
	}
	if !r.Idle(time.Minute) {
		t.Fatal("orphans were not reaped")
	}
	children, err := os.ReadFile("/proc/thread-self/children")
	if err == nil && len(bytes.TrimSpace(children)) > 0 {
		t.Errorf("children are left: %s", children)
	}
	// And it works on after that.
	if got := await(t, shell(t, r, "exit 9")); got != 9 {
		t.Errorf("got %d, want 9", got)
	}
}
