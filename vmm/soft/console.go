package soft

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

const (
	consoleFile  = "console.log"
	consoleLimit = 1 << 20 // of console.log and console.log.1 together
	keptLines    = 500
	maxConsole   = 1000 // bytes of a line; the rest is dropped
)

// console keeps what the guest writes to its serial port: the last lines in memory, more of them in files. Both hold text alone: a log that is
// shown in a terminal must not be able to command it.
type console struct {
	dir string

	mu    sync.Mutex
	text  plain
	line  []byte
	lines []string // the last keptLines
	file  *os.File
	size  int64
}

func newConsole(dir string) (*console, error) {
	c := &console{dir: dir}
	if err := c.rotate(); err != nil {
		return nil, err
	}
	return c, nil
}

// rotate begins a new file. What an earlier machine in this folder wrote is kept as console.log.1.
func (c *console) rotate() error {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
	path := filepath.Join(c.dir, consoleFile)
	if err := os.Rename(path, path+".1"); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("console log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("console log: %w", err)
	}
	c.file, c.size = f, 0
	return nil
}

// copy reads until r ends.
func (c *console) copy(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		c.write(buf[:n])
		if err != nil {
			return
		}
	}
}

func (c *console) write(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range p {
		out, ok := c.text.next(b)
		switch {
		case !ok:
		case out == '\n':
			c.end()
		case len(c.line) < maxConsole:
			c.line = append(c.line, out)
		}
	}
}

// end finishes a line. A log that cannot be written is no reason to stop a machine.
func (c *console) end() {
	line := string(c.line)
	c.line = c.line[:0]
	c.lines = append(c.lines, line)
	if len(c.lines) >= 2*keptLines {
		c.lines = append([]string(nil), c.lines[len(c.lines)-keptLines:]...)
	}
	if c.file == nil {
		return
	}
	n, err := c.file.WriteString(line + "\n")
	c.size += int64(n)
	if err != nil || c.size >= consoleLimit/2 && c.rotate() != nil {
		c.file.Close()
		c.file = nil
	}
}

// last returns up to n of the last lines, an unfinished one among them.
func (c *console) last(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := c.lines
	if len(c.line) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(c.line))
	}
	n = max(0, min(n, len(lines), keptLines))
	return append([]string(nil), lines[len(lines)-n:]...)
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.line) > 0 {
		c.end()
	}
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}

// plain takes control characters and escape sequences (ECMA-48) out of a stream, and makes a question mark of every byte that is not ASCII: the kernel
// writes no other, and an invisible or reordering character has no place in a log.
type plain struct{ state byte }

const (
	inText    = iota
	inEscape  // after ESC
	inControl // CSI: until a byte from @ to ~
	inString  // OSC, DCS and the like: until BEL or ESC \
)

func (p *plain) next(b byte) (byte, bool) {
	switch p.state {
	case inEscape:
		switch b {
		case '[':
			p.state = inControl
		case ']', 'P', 'X', '^', '_':
			p.state = inString
		case '\x1b':
		default:
			if b < 0x20 || b > 0x2f { // intermediate bytes go on
				p.state = inText
			}
		}
		return 0, false
	case inControl:
		if b == '\n' || b >= '@' && b <= '~' {
			p.state = inText
		}
		return '\n', b == '\n'
	case inString:
		switch b {
		case '\x1b':
			p.state = inEscape
		case '\a', '\n':
			p.state = inText
		}
		return '\n', b == '\n'
	}
	switch {
	case b == '\x1b':
		p.state = inEscape
	case b == '\n', b == '\t', b >= ' ' && b < 0x7f:
		return b, true
	case b >= 0x80:
		return '?', true
	}
	return 0, false
}
