//go:build linux

package agent

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// grace is how long output may still trickle in after the program has ended: a terminal's driver hands it on by a worker.
	grace = 200 * time.Millisecond
	// leftover bounds what is taken after that. A pipe holds 64 KiB, a terminal 4.
	leftover = 1 << 20
)

// copyOutput copies a program's output from the near end of its pipe or terminal until the far ends are all closed, or, when a
// descendant that outlives the program keeps one open, until endOutput has been called and what the program itself had written is
// through. write must not fail for good: it is called with everything.
func copyOutput(src *os.File, write func([]byte)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			write(buf[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			drain(src, buf, write)
			return
		}
		if err != nil {
			return
		}
	}
}

// endOutput is called when the program has ended.
func endOutput(src *os.File) { _ = src.SetReadDeadline(time.Now().Add(grace)) }

// drain takes what is there without waiting. The deadline has passed, so Read would give nothing.
func drain(src *os.File, buf []byte, write func([]byte)) {
	raw, err := src.SyscallConn()
	if err != nil {
		return
	}
	for total := 0; total < leftover; {
		n := 0
		_ = raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) })
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		write(buf[:n])
		total += n
	}
}

// discardAfter writes to w until that fails, and takes the rest as well: the writer of a pipe must not be stopped by it.
func discardAfter(w io.Writer) func([]byte) {
	failed := false
	return func(p []byte) {
		if !failed {
			_, err := w.Write(p)
			failed = err != nil
		}
	}
}
