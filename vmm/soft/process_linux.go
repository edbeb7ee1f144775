package soft

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user and group that QEMU runs as when this program is root. What it needs it has been given open.
const nobody = 65534

// process is a running QEMU.
type process struct {
	cmd    *exec.Cmd
	stderr *head
	done   chan struct{}
	err    error // of Wait, once done is closed
}

// start runs a program that gets files as descriptors 3, 4, …; and dies when this process does, however that ends.
func start(path string, args []string, files []*os.File) (*process, error) {
	p := &process{stderr: &head{}, done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	p.cmd.Dir = "/"
	p.cmd.Stderr = p.stderr
	p.cmd.ExtraFiles = files
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true, // ctrl-C in the terminal of this program is not for QEMU
	}
	if os.Geteuid() == 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	// What this program was itself started with is not for QEMU. The runtime marks all that it opens, others may not have.
	if err := unix.CloseRange(firstFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS {
		return nil, fmt.Errorf("close_range: %w", err)
	}
	started := make(chan error)
	go func() {
		// The death that Pdeathsig speaks of is that of the thread (prctl(2)): this one stays until QEMU has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process and waits for it.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// head keeps the first bytes that are written to it.
type head struct {
	mu sync.Mutex
	b  []byte
}

const headSize = 4 << 10

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p[:min(len(p), headSize-len(h.b))]...)
	return len(p), nil
}

// line is the first line that says something.
func (h *head) line() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for line := range bytes.Lines(h.b) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return string(line)
		}
	}
	return ""
}
