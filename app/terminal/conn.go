package terminal

import (
	"errors"
	"io"
	"sync"

	"capsid/app/terminal/vt"
)

// Conn is what a terminal shows and types into. Close must end a blocked Read.
type Conn interface {
	io.ReadWriteCloser
	// Resize tells the program the size of its window, in cells.
	Resize(cols, rows int) error
}

const (
	maxOut     = 4 << 20   // bytes typed and pasted that wait for the Conn
	maxReplies = 256 << 10 // above this, the terminal's own answers are dropped
)

// attachment carries bytes between a Conn and a screen, each way on a goroutine of its own. Both end when the Conn does.
type attachment struct {
	conn   Conn
	screen *vt.Screen
	ended  func(*attachment, error) // called once, unless closed first; nil is an ordinary end

	mu         sync.Mutex
	wake       *sync.Cond
	out        []byte
	cols, rows int // to be told, when not zero
	closed     bool
}

func newAttachment(conn Conn, screen *vt.Screen, cols, rows int, ended func(*attachment, error)) *attachment {
	a := &attachment{conn: conn, screen: screen, ended: ended, cols: cols, rows: rows}
	a.wake = sync.NewCond(&a.mu)
	go a.read()
	go a.write()
	return a
}

// send queues bytes for the program, and says whether there was room.
func (a *attachment) send(b []byte, limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.out)+len(b) > limit {
		return false
	}
	a.out = append(a.out, b...)
	a.wake.Signal()
	return true
}

func (a *attachment) resize(cols, rows int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cols, a.rows = cols, rows
	a.wake.Signal()
}

// close ends both goroutines. It does not wait for a Conn whose Close blocks.
func (a *attachment) close() {
	if a.finish() {
		go a.conn.Close()
	}
}

// finish says whether it was the first to end the attachment.
func (a *attachment) finish() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := !a.closed
	a.closed = true
	a.out = nil
	a.wake.Broadcast()
	return first
}

func (a *attachment) fail(err error) {
	if !a.finish() {
		return
	}
	a.conn.Close()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	a.ended(a, err)
}

func (a *attachment) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := a.conn.Read(buf)
		if n > 0 && !a.isClosed() {
			a.screen.Write(buf[:n])
		}
		if err != nil {
			a.fail(err)
			return
		}
	}
}

func (a *attachment) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

func (a *attachment) write() {
	for {
		a.mu.Lock()
		for !a.closed && len(a.out) == 0 && a.cols == 0 {
			a.wake.Wait()
		}
		if a.closed {
			a.mu.Unlock()
			return
		}
		cols, rows, out := a.cols, a.rows, a.out
		a.cols, a.rows, a.out = 0, 0, nil
		a.mu.Unlock()

		if cols > 0 {
			if err := a.conn.Resize(cols, rows); err != nil {
				a.fail(err)
				return
			}
		}
		if len(out) > 0 {
			if _, err := a.conn.Write(out); err != nil {
				a.fail(err)
				return
			}
		}
	}
}
