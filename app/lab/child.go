//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"capsid/guest/link"
)

// run starts the program and tells the host of it until it has ended. An error is that of the lab.
func (s spec) run(ctx context.Context, l link.Link, to *json.Encoder, from *json.Decoder) error {
	var conns [3]link.Conn
	for i := range conns {
		if i == 2 && s.OneOutput {
			break
		}
		var err error
		if conns[i], err = l.Dial(ctx, stdinPort+link.Port(i)); err != nil {
			return err
		}
	}
	// What LookPath searches is this process's own.
	os.Clearenv()
	env := append(s.Env, "CAPSID_LAB=1", "CAPSID_TEST_IMAGE="+imagesDir+"/"+s.Image)
	if path, ok := variable(env, "PATH"); ok {
		if err := os.Setenv("PATH", path); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(s.Command[0])
	if err != nil {
		return err
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	child, err := os.StartProcess(path, s.Command, &os.ProcAttr{
		Dir: s.Dir, Env: env, Files: files.child[:],
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: s.Terminal},
	})
	files.started()
	if err != nil {
		return err
	}
	if err := to.Encode(message{Started: true}); err != nil {
		return err
	}
	go func() { // ends with the machine
		_, _ = io.Copy(files.in, conns[0])
		if !s.Terminal {
			files.in.Close()
		}
	}()
	var output sync.WaitGroup
	for i, f := range files.out {
		output.Go(func() {
			_, _ = io.Copy(conns[1+i], f)
			conns[1+i].CloseWrite()
		})
	}
	go receive(from, child.Pid, files)
	status := reap(child.Pid)
	// What the program left behind may hold its output open.
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill what the program left: %w", err)
	}
	output.Wait()
	return to.Encode(message{Ended: true, Exit: status})
}

// receive does what the host asks for.
func receive(from *json.Decoder, pid int, files *files) {
	for {
		var m message
		if from.Decode(&m) != nil {
			return
		}
		if m.Signal != 0 {
			_ = unix.Kill(pid, unix.Signal(m.Signal)) // it may have ended just now
		}
		if m.Rows != 0 {
			_ = pty.Setsize(files.in, &pty.Winsize{Rows: uint16(m.Rows), Cols: uint16(m.Columns)})
		}
	}
}

// reap waits for the program, and for all whose parents have gone: they are PID 1's.
func reap(pid int) int {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR) || err == nil && got != pid:
		case err != nil:
			return failure // cannot be: the program is a child
		case ws.Signaled():
			return 128 + int(ws.Signal())
		default:
			return ws.ExitStatus()
		}
	}
}

// files are the program's descriptors, and the other ends of them.
type files struct {
	child [3]*os.File
	in    *os.File
	out   []*os.File
}

func (s spec) files() (*files, error) {
	f := &files{}
	if s.Terminal {
		master, slave, err := pty.Open()
		if err != nil {
			return nil, err
		}
		f.child = [3]*os.File{slave, slave, slave}
		f.in, f.out = master, []*os.File{master}
		return f, pty.Setsize(master, &pty.Winsize{Rows: uint16(s.Rows), Cols: uint16(s.Columns)})
	}
	var err error
	if f.child[0], f.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	for i := 1; i < 3; i++ {
		if i == 2 && s.OneOutput {
			f.child[2] = f.child[1]
			break
		}
		var r *os.File
		if r, f.child[i], err = os.Pipe(); err != nil {
			return nil, err
		}
		f.out = append(f.out, r)
	}
	return f, nil
}

// started closes the program's ends here.
func (f *files) started() {
	for _, c := range f.child {
		c.Close()
	}
}
