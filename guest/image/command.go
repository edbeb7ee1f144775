package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a tool may take to clean up after SIGTERM: mmdebstrap deletes its tree, part of which belongs to other uids.
const stopGrace = 20 * time.Second

// run runs a tool in a process group of its own and waits for it. Whatever ends first, ctx or this process, the tool is told to stop (SIGTERM),
// and when ctx ends, killed with all its children after stopGrace. The error has the last lines that the tool wrote.
func run(ctx context.Context, cmd *exec.Cmd, log io.Writer) error {
	// Pdeathsig is sent when the thread that started the child ends, so that thread must stay as long as the child does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	tail := &tailWriter{}
	cmd.Stderr = io.MultiWriter(log, tail)
	if cmd.Stdout == nil {
		cmd.Stdout = cmd.Stderr
	}
	cmd.WaitDelay = time.Second // a grandchild that holds a pipe open does not hold us
	if err := cmd.Start(); err != nil {
		return err
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		group := -cmd.Process.Pid
		_ = syscall.Kill(group, syscall.SIGTERM) // an error means that it is gone
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case <-done:
		case <-grace.C:
		}
		_ = syscall.Kill(group, syscall.SIGKILL)
	}()
	err := cmd.Wait()
	close(done)
	<-stopped
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%s: %w: %s", cmd.Args[0], err, tail.last(3))
	}
	return nil
}

// tailWriter keeps the end of what is written to it.
type tailWriter struct{ buf []byte }

const tailLimit = 8 << 10

func (t *tailWriter) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailLimit {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailLimit:]...)
	}
	return len(p), nil
}

// last is the last n lines that say something, joined to one.
func (t *tailWriter) last(n int) string {
	var lines []string
	for _, l := range strings.FieldsFunc(string(t.buf), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], " / ")
}

// lineWriter calls a function for each line, whether it ends in \n or, as progress lines do, in \r.
type lineWriter struct {
	line func(string)
	buf  []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.buf = append(l.buf, p...)
	for {
		i := bytes.IndexAny(l.buf, "\r\n")
		if i < 0 {
			break
		}
		l.line(string(l.buf[:i]))
		l.buf = l.buf[i+1:]
	}
	if len(l.buf) > tailLimit {
		l.buf = nil // no line of a tool is that long
	}
	return len(p), nil
}
