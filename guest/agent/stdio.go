//go:build linux

package agent

import (
	"io"
	"os"
	"sync"
)

// startPipes starts p with a pipe for each of its standard files. The result copies, waits and tells the end.
func (x *session) startPipes(p *program) (finish func(), err error) {
	var near, far [3]*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			if f != nil {
				_ = f.Close()
			}
		}
	}
	for i := range near {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(near[:])
			closeAll(far[:])
			return nil, err
		}
		near[i], far[i] = r, w
		if i == 0 {
			near[i], far[i] = w, r
		}
	}
	x.proc, err = p.start(x.s.procs, far[:], false)
	closeAll(far[:])
	if err != nil {
		closeAll(near[:])
		return nil, err
	}
	return func() {
		defer closeAll(near[:])
		go func() {
			_, _ = io.Copy(near[0], x.ch)
			_ = near[0].Close()
		}()
		var output sync.WaitGroup
		output.Go(func() { copyOutput(near[1], discardAfter(x.ch)) })
		output.Go(func() { copyOutput(near[2], discardAfter(x.ch.Stderr())) })
		<-x.proc.Done()
		endOutput(near[1])
		endOutput(near[2])
		output.Wait()
		x.exit(x.proc.Code(), x.proc.KilledBy())
	}, nil
}

// startTerminal starts p on a terminal of its own.
func (x *session) startTerminal(p *program) (finish func(), err error) {
	near, far, err := openTerminal(p.who, x.pty.Cols, x.pty.Rows)
	if err != nil {
		return nil, err
	}
	x.proc, err = p.start(x.s.procs, []*os.File{far, far, far}, true)
	_ = far.Close()
	if err != nil {
		_ = near.Close()
		return nil, err
	}
	x.near = near
	return func() {
		go func() { _, _ = io.Copy(near, x.ch) }()
		done := make(chan struct{})
		go func() {
			defer close(done)
			copyOutput(near, discardAfter(x.ch))
		}()
		<-x.proc.Done()
		endOutput(near)
		<-done
		x.exit(x.proc.Code(), x.proc.KilledBy())
	}, nil
}
