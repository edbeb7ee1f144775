//go:build linux

package agent

import (
	"os"
	"sync"
	"syscall"
	"time"

	"capsid/guest/agent/reap"
	"capsid/guest/agent/replay"
	"capsid/guest/control"

	"golang.org/x/sys/unix"
)

const (
	// behind is how far a client may be behind the program before the program is made to wait for it.
	behind = 256 << 10
	// patience is how long it waits. A client that took nothing for so long is waited for no more until it has caught up; it loses
	// what the log loses meanwhile.
	patience = 2 * time.Second
	// chunk is what a client takes at a time.
	chunk = 32 << 10
)

// terminal is a program on a terminal of the agent's own. Its output goes into a log, from which each client reads at its own pace, so
// that a client costs no memory and cannot stop the others.
type terminal struct {
	name    string
	command []string
	started time.Time
	near    *os.File
	proc    *reap.Process

	mu      sync.Mutex
	changed *sync.Cond // output, a client's progress, or the end
	log     *replay.Log
	size    control.Size
	clients map[*viewer]struct{}
	seen    bool // a client was attached once
	ended   bool
	code    int
}

// viewer is one client of a terminal.
type viewer struct {
	t        *terminal
	at       int64 // what it has taken, as an offset of the log
	progress time.Time
	stalled  bool
	gone     bool
}

func startTerminal(procs *reap.Reaper, spec control.TerminalSpec, p *program) (*terminal, error) {
	near, far, err := openTerminal(p.who, clampCells(spec.Cols), clampCells(spec.Rows))
	if err != nil {
		return nil, err
	}
	proc, err := p.start(procs, []*os.File{far, far, far}, true)
	_ = far.Close()
	if err != nil {
		_ = near.Close()
		return nil, err
	}
	t := &terminal{
		name: spec.Name, command: spec.Command, started: time.Now(), near: near, proc: proc,
		log: replay.NewLog(replay.DefaultSize), size: control.Size{Cols: spec.Cols, Rows: spec.Rows}, clients: make(map[*viewer]struct{}),
	}
	t.changed = sync.NewCond(&t.mu)
	go t.run()
	return t, nil
}

func clampCells(n int) uint32 { return uint32(min(max(n, 0), 10000)) }

// run carries the program's output until it has ended.
func (t *terminal) run() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyOutput(t.near, t.output)
	}()
	<-t.proc.Done()
	endOutput(t.near)
	<-done
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended, t.code = true, t.proc.Code()
	t.changed.Broadcast()
	_ = t.near.Close()
}

func (t *terminal) output(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.Write(p)
	t.changed.Broadcast()
	t.await()
}

// await lets the program wait for the slowest client that still makes progress.
func (t *terminal) await() {
	for {
		wait := time.Duration(0)
		for v := range t.clients {
			if v.stalled || t.log.End()-v.at <= behind {
				continue
			}
			left := patience - time.Since(v.progress)
			if left <= 0 {
				v.stalled = true
				continue
			}
			wait = max(wait, left)
		}
		if wait == 0 {
			return
		}
		timer := time.AfterFunc(wait, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.changed.Broadcast()
		})
		t.changed.Wait()
		timer.Stop()
	}
}

func (t *terminal) running() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.ended
}

func (t *terminal) info() control.TerminalInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return control.TerminalInfo{
		Name: t.name, Command: t.command, Started: t.started, Running: !t.ended, ExitCode: t.code,
		Clients: len(t.clients), Title: t.log.Title(),
	}
}

// resize sets the size for all: the last client that asks wins.
func (t *terminal) resize(cols, rows uint32) {
	if cols == 0 || rows == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = control.Size{Cols: int(cols), Rows: int(rows)}
	if !t.ended {
		setSize(t.near, cols, rows)
	}
}

// attach adds a client and gives it what it must show first. The first client of all gets the output as it is, from its start: what the program
// has asked since then nobody has answered yet.
func (t *terminal) attach(cols, rows int) (*viewer, replay.Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := &viewer{t: t, progress: time.Now()}
	t.clients[v] = struct{}{}
	var first replay.Snapshot
	if t.seen {
		v.at, first = t.log.End(), t.log.Snapshot()
	}
	t.seen = true
	size := control.Size{Cols: cols, Rows: rows}
	switch {
	case t.ended || cols <= 0 || rows <= 0:
	case size != t.size:
		t.size = size
		setSize(t.near, clampCells(cols), clampCells(rows))
	case t.log.End() > 0:
		// The kernel tells a program of a change only. A full-screen program that is told paints anew, which mends what the replay may lack.
		t.redraw()
	}
	return v, first
}

// redraw tells the program in the foreground that its window changed.
func (t *terminal) redraw() {
	raw, err := t.near.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil && group > 1 {
			_ = unix.Kill(-group, syscall.SIGWINCH)
		}
	})
}

func (v *viewer) detach() {
	v.t.mu.Lock()
	defer v.t.mu.Unlock()
	v.gone = true
	delete(v.t.clients, v)
	v.t.changed.Broadcast()
}

// next gives what the client has not had yet, and waits for it. When it fell so far behind that part of that is lost, snapshot
// is what it must start afresh with. more is false at the end.
func (v *viewer) next(buf []byte) (n int, snapshot *replay.Snapshot, more bool) {
	t := v.t
	t.mu.Lock()
	defer t.mu.Unlock()
	v.progress = time.Now()
	for {
		b, to, ok := t.log.Since(v.at, len(buf))
		if !ok {
			s := t.log.Snapshot()
			v.at = t.log.End()
			return 0, &s, true
		}
		if len(b) > 0 {
			v.at = to
			if t.log.End()-v.at < behind/2 {
				v.stalled = false
			}
			t.changed.Broadcast()
			return copy(buf, b), nil, true
		}
		if t.ended || v.gone {
			return 0, nil, false
		}
		v.stalled = false
		t.changed.Wait()
		v.progress = time.Now()
	}
}

// exit is the program's status; false while it runs.
func (t *terminal) exit() (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.code, t.ended
}
