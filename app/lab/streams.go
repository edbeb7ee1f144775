//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"capsid/guest/link"
)

// run serves the lab's streams until its program has ended, and returns its exit status.
func (m *machine) run(ctx context.Context, o options, s spec) (int, error) {
	var streams [4]<-chan link.Conn
	for i := range streams {
		var err error
		if streams[i], err = m.accept(controlPort + link.Port(i)); err != nil {
			return 0, err
		}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGQUIT)
	if s.Terminal {
		state, err := term.MakeRaw(0)
		if err != nil {
			return 0, fmt.Errorf("terminal: %w", err)
		}
		defer term.Restore(0, state)
		signal.Notify(signals, syscall.SIGWINCH)
	}
	output := m.copyStreams(streams, s.OneOutput)
	messages, send := m.control(streams[0])
	boot := time.NewTimer(o.bootTimeout)
	defer boot.Stop()
	var deadline <-chan time.Time
	status := 0
	var drained <-chan struct{}
	for {
		select {
		case msg := <-messages:
			switch {
			case msg.Failed != "":
				return 0, m.explain(msg.Failed)
			case msg.Absent != "":
				return 0, errors.New(msg.Absent)
			case msg.Started:
				m.note("the program starts")
				m.started()
				boot.Stop()
				if o.timeout > 0 {
					deadline = time.After(o.timeout)
				}
			case msg.Ended:
				status, drained = msg.Exit, output
			}
		case <-drained:
			m.note("the program has ended")
			return status, nil
		case sig := <-signals:
			if sig == syscall.SIGQUIT {
				send(message{Signal: int(syscall.SIGQUIT)})
			} else if columns, rows, err := term.GetSize(0); err == nil {
				send(message{Rows: rows, Columns: columns})
			}
		case <-boot.C:
			return 0, m.explain(fmt.Sprintf("the machine has not started the program within %v", o.bootTimeout))
		case <-deadline:
			return 0, m.explain(fmt.Sprintf("the program has not ended within %v", o.timeout))
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-m.qemu.ended:
			return 0, m.gone()
		case <-m.mux.Done():
			return 0, m.gone()
		}
	}
}

// accept takes the one stream that the lab opens to port.
func (m *machine) accept(port link.Port) (<-chan link.Conn, error) {
	l, err := m.mux.Listen(port)
	if err != nil {
		return nil, err
	}
	ch := make(chan link.Conn, 1)
	go func() {
		defer l.Close()
		if c, err := l.Accept(); err == nil {
			ch <- c.(link.Conn)
		}
	}()
	return ch, nil
}

// copyStreams moves the program's bytes. The channel is closed when all its output is out.
func (m *machine) copyStreams(streams [4]<-chan link.Conn, one bool) <-chan struct{} {
	with := func(stream <-chan link.Conn, f func(link.Conn)) {
		select {
		case c := <-stream:
			f(c)
		case <-m.mux.Done():
		}
	}
	out := func(w io.Writer) func(link.Conn) {
		return func(c link.Conn) {
			_, _ = io.Copy(w, c)
			_, _ = io.Copy(io.Discard, c) // the reader has gone: the program goes on, as if it ignored SIGPIPE
		}
	}
	go with(streams[1], func(c link.Conn) { // until this process ends, when nothing is typed
		_, _ = io.Copy(c, os.Stdin)
		c.CloseWrite()
	})
	var copying sync.WaitGroup
	copying.Go(func() { with(streams[2], out(os.Stdout)) })
	if !one {
		copying.Go(func() { with(streams[3], out(os.Stderr)) })
	}
	drained := make(chan struct{})
	go func() {
		copying.Wait()
		close(drained)
	}()
	return drained
}

// control reads the lab's messages. Those of the host wait for the stream's start in a short queue; what does not fit is lost.
func (m *machine) control(stream <-chan link.Conn) (in <-chan message, send func(message)) {
	received, queue := make(chan message), make(chan message, 8)
	write := func(c link.Conn) {
		for enc := json.NewEncoder(c); ; {
			select {
			case msg := <-queue:
				if enc.Encode(msg) != nil {
					return
				}
			case <-m.mux.Done():
				return
			}
		}
	}
	go func() {
		var c link.Conn
		select {
		case c = <-stream:
		case <-m.mux.Done():
			return
		}
		go write(c)
		for dec := json.NewDecoder(c); ; {
			var msg message
			if dec.Decode(&msg) != nil {
				return // the link's end says more
			}
			select {
			case received <- msg:
			case <-m.mux.Done():
				return
			}
		}
	}()
	return received, func(msg message) {
		select {
		case queue <- msg:
		default:
		}
	}
}
