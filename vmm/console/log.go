// Package console keeps what a guest writes to its console: the last lines in memory, more of them in files. Both hold text alone: a log that is
// shown in a terminal must not be able to command it.
package console

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	// File is the log's name in the machine's folder. What was in it before is kept under the name with ".1" after it.
	File = "console.log"
	// Kept is how many lines are in memory.
	Kept = 500

	fileLimit = 1 << 20 // bytes of both files together
	maxLine   = 1000    // bytes of a line; the rest is dropped
)

// Log is the console of one machine. Its methods may be called from any goroutine.
type Log struct {
	dir string

	mu    sync.Mutex
	text  plain
	line  []byte
	lines []string // the last Kept and some more
	file  *os.File
	size  int64
}

// Open begins a log in a folder. What an earlier machine wrote there is kept as the older of two files.
func Open(dir string) (*Log, error) {
	l := &Log{dir: dir}
	if err := l.rotate(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) rotate() error {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	path := filepath.Join(l.dir, File)
	if err := os.Rename(path, path+".1"); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("console log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("console log: %w", err)
	}
	l.file, l.size = f, 0
	return nil
}

// Write takes what the guest wrote, in pieces of any size. It never fails: a log that cannot be written to its file is no reason to stop a machine.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		out, ok := l.text.next(b)
		switch {
		case !ok:
		case out == '\n':
			l.end()
		case len(l.line) < maxLine:
			l.line = append(l.line, out)
		}
	}
	return len(p), nil
}

// end finishes a line.
func (l *Log) end() {
	line := string(l.line)
	l.line = l.line[:0]
	l.lines = append(l.lines, line)
	if len(l.lines) >= 2*Kept {
		l.lines = append([]string(nil), l.lines[len(l.lines)-Kept:]...)
	}
	if l.file == nil {
		return
	}
	n, err := l.file.WriteString(line + "\n")
	l.size += int64(n)
	if err != nil || l.size >= fileLimit/2 && l.rotate() != nil {
		l.file.Close()
		l.file = nil
	}
}

// Last returns up to n of the last lines, an unfinished one among them.
func (l *Log) Last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	if len(l.line) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(l.line))
	}
	n = max(0, min(n, len(lines), Kept))
	return append([]string(nil), lines[len(lines)-n:]...)
}

// Close ends the files. The lines in memory stay.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.end()
	}
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

const (
	// crashLines is how many lines an error carries.
	crashLines = 12
	// panicLine is what kernel/panic.c of Linux begins with.
	panicLine = "Kernel panic - not syncing"
)

// Panicked says whether the guest's kernel wrote of its panic.
func (l *Log) Panicked() bool { return lastPanic(l.Last(Kept)) >= 0 }

// Crash is what an error says of the console when a machine has crashed: the panic and what follows it, or the last lines.
func (l *Log) Crash() string {
	lines := telling(l.Last(Kept))
	if len(lines) == 0 {
		return "the console is empty"
	}
	return "the console's last lines:\n  " + strings.Join(lines, "\n  ")
}

// telling picks the lines that say most of a crash.
func telling(lines []string) []string {
	from := lastPanic(lines)
	if from < 0 {
		from = max(0, len(lines)-crashLines)
	}
	return lines[from:min(len(lines), from+crashLines)]
}

// lastPanic is the index of the last line that speaks of a panic, or -1.
func lastPanic(lines []string) int {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], panicLine) {
			return i
		}
	}
	return -1
}
