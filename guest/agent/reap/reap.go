//go:build linux

// Package reap starts processes and learns how they ended, in a process that also inherits the orphans of the whole
// machine. The usual os/exec cannot be used there: whoever waits for any child takes the statuses that os/exec waits for, and
// whoever waits only for known children leaves zombies.
//
// One goroutine waits for all. Both starting and reaping hold one lock, so a status is never seen before its process is
// known, and a signal never reaches a process ID that has been given away again.
package reap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Reaper starts processes.
type Reaper struct {
	mu      sync.Mutex
	changed *sync.Cond // a process was started, or there are no children any more
	known   map[int]*Process
	orphans bool
	idle    bool
	group   *Group // nil for the caller's own
}

// New makes a reaper. With orphans it reaps every child of this process, also those that it did not start: only the first
// process of a machine (or a child subreaper) wants that, and it may then not use os/exec. Its goroutine lives as long as the process.
func New(orphans bool) *Reaper {
	r := &Reaper{known: make(map[int]*Process), orphans: orphans, idle: true}
	r.changed = sync.NewCond(&r.mu)
	if orphans {
		go r.run()
	}
	return r
}

// Command is a process to start.
type Command struct {
	Path   string // of the program
	Args   []string
	Env    []string
	Dir    string
	Files  []*os.File // the child's 0, 1, 2, …; they stay the caller's
	Attr   *syscall.SysProcAttr
	Limits func(pid int) // called at once when the process runs, to adjust it
}

// Process is one that was started.
type Process struct {
	PID    int
	r      *Reaper
	done   chan struct{}
	reaped bool // under r.mu
	status syscall.WaitStatus
}

// Start starts a process in a session or group as c.Attr says.
func (r *Reaper) Start(c Command) (*Process, error) {
	fds := make([]uintptr, len(c.Files))
	for i, f := range c.Files {
		fds[i] = f.Fd()
	}
	attr := c.Attr
	if r.group != nil {
		r.group.starting.RLock()
		defer r.group.starting.RUnlock()
		in := syscall.SysProcAttr{}
		if attr != nil {
			in = *attr
		}
		in.UseCgroupFD, in.CgroupFD = true, int(r.group.dir.Fd())
		attr = &in
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: fds, Sys: attr})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	if c.Limits != nil {
		c.Limits(pid)
	}
	p := &Process{PID: pid, r: r, done: make(chan struct{})}
	r.known[pid] = p
	r.idle = false
	r.changed.Broadcast()
	if !r.orphans {
		go r.waitOne(p)
	}
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Code is the exit status, 128+n for signal n. Only after Done.
func (p *Process) Code() int {
	<-p.done
	if p.status.Signaled() {
		return 128 + int(p.status.Signal())
	}
	return p.status.ExitStatus()
}

// KilledBy is the signal that ended the process, 0 when it exited by itself. Only after Done.
func (p *Process) KilledBy() syscall.Signal {
	<-p.done
	if p.status.Signaled() {
		return p.status.Signal()
	}
	return 0
}

// SignalGroup sends a signal to the group that the process leads. It does nothing once the process has ended: what it left
// behind in its group was meant to outlive it, or gets the terminal's hang-up.
func (p *Process) SignalGroup(s syscall.Signal) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.PID, s)
	}
}

// Idle waits until this process has no children, at most for the given time, and tells whether that came true.
func (r *Reaper) Idle(atMost time.Duration) bool {
	over := false
	timer := time.AfterFunc(atMost, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		over = true
		r.changed.Broadcast()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.idle && !over {
		r.changed.Wait()
	}
	return r.idle
}

// run reaps every child. waitid with WNOWAIT only tells that there is something to reap; the reaping itself happens under
// the lock.
func (r *Reaper) run() {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		r.mu.Lock()
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if errors.Is(err, syscall.ECHILD) {
				// An orphan becomes a child before its last parent can be reaped, so none can come but by a Start.
				r.idle = true
				r.changed.Broadcast()
				for r.idle {
					r.changed.Wait()
				}
			}
			if err != nil || pid <= 0 {
				break
			}
			if p := r.known[pid]; p != nil {
				r.end(p, status)
			}
		}
		r.mu.Unlock()
	}
}

// waitOne reaps one process, when others' children are not this reaper's.
func (r *Reaper) waitOne(p *Process) {
	for errors.Is(unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.PID, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	r.end(p, status)
	if len(r.known) == 0 {
		r.idle = true
		r.changed.Broadcast()
	}
}

func (r *Reaper) end(p *Process, status syscall.WaitStatus) {
	delete(r.known, p.PID)
	p.reaped, p.status = true, status
	close(p.done)
}
