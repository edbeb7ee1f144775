// Package process runs the processes that are machines: as nobody where the caller is root, with open files instead of paths, and never longer than
// the caller lives.
package process

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

// nobody is the user and group that the process runs as when this program is root. What it needs it has been given open.
const nobody = 65534

// Process is one that runs.
type Process struct {
	Stderr *Head
	Done   chan struct{} // closed when it has ended
	Err    error         // of Wait, once Done is closed
	cmd    *exec.Cmd
}

// FirstFD is the number of the first of the files in the process.
const FirstFD = 3

// Start runs a program that gets files as descriptors 3, 4, …; and dies when this process does, however that ends.
func Start(path string, args []string, files []*os.File) (*Process, error) {
	p := &Process{Stderr: &Head{}, Done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	p.cmd.Dir = "/"
	p.cmd.Stderr = p.Stderr
	p.cmd.ExtraFiles = files
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true, // ctrl-C in the terminal of this program is not for QEMU
	}
	if os.Geteuid() == 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	// What this program was itself started with is not for QEMU. The runtime marks all that it opens, others may not have.
	if err := unix.CloseRange(FirstFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS {
		return nil, fmt.Errorf("close_range: %w", err)
	}
	started := make(chan error)
	go func() {
		// The death that Pdeathsig speaks of is that of the thread (prctl(2)): this one stays until the process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.Err = p.cmd.Wait()
			close(p.Done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process and waits for it.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.Done
}

// Head keeps the first bytes that are written to it.
type Head struct {
	mu sync.Mutex
	b  []byte
}

const headSize = 4 << 10

// Write never fails.
func (h *Head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p[:min(len(p), headSize-len(h.b))]...)
	return len(p), nil
}

// Line is the first line that says something.
func (h *Head) Line() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for line := range bytes.Lines(h.b) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return string(line)
		}
	}
	return ""
}
