// Package replay keeps the recent output of a terminal's program, so that whoever attaches later sees what those who were there saw.
//
// What is kept is bounded. It is cut only between whole sequences and characters, and what was cut away is remembered by its
// effect: the modes that it left set, the title, the colours of the pen. A replay begins with these. It has no sequence
// that a terminal would answer (the program has had its answer, a second one would be typed into it), and none that rings,
// notifies or writes the clipboard a second time.
package replay

import "bytes"

// DefaultSize is how much output a Log keeps.
const DefaultSize = 1 << 20

// Log is the recent output of one program. It is not safe for concurrent use.
type Log struct {
	max  int
	buf  []byte
	end  int64 // offset of the byte after buf, since the program's start
	lost modes // the effect of what was cut away
	// skip: the log was cut inside of a string longer than the whole log; its bytes are thrown away until it ends.
	skip bool
}

// NewLog makes a log that keeps size bytes, and up to a quarter more.
func NewLog(size int) *Log { return &Log{max: size} }

// Write adds output of the program.
func (l *Log) Write(p []byte) {
	l.end += int64(len(p))
	if l.skip {
		p = l.skipString(p)
	}
	l.buf = append(l.buf, p...)
	if len(l.buf) > l.max+l.max/4 {
		l.cut(len(l.buf) - l.max)
	}
}

// skipString returns p from where the string ends that is being thrown away.
func (l *Log) skipString(p []byte) []byte {
	i := bytes.IndexAny(p, "\a\x18\x1a\x1b")
	if i < 0 {
		return nil
	}
	l.skip = false
	if p[i] == '\x1b' {
		return p[i:] // the terminator itself (ESC \), or another sequence that cancels the string
	}
	return p[i+1:]
}

// cut removes at least n bytes, so many whole sequences as it takes.
func (l *Log) cut(n int) {
	done := 0
	for done < len(l.buf) {
		size := next(l.buf[done:])
		if size == 0 && done >= n {
			break
		}
		if size == 0 {
			// Not whole, and it begins within what must go: it is longer than all that may be kept.
			l.skip = isString(l.buf[done:])
			done = len(l.buf)
			break
		}
		l.lost.apply(l.buf[done : done+size])
		done += size
		// The start of a line is the best place to cut: what follows lands in the right column. It is looked for in a stretch only.
		if done >= n && (l.buf[done-1] == '\n' || done >= n+n/2) {
			break
		}
	}
	l.buf = l.buf[:copy(l.buf, l.buf[done:])]
}

// End is the offset after the last byte, counted from the program's start.
func (l *Log) End() int64 { return l.end }

// Since returns the output from an offset on, at most max bytes, as it was written, and the offset after it. It is false when part of that has
// been cut away: then only a Replay brings a terminal up to date. The slice is valid until the next Write.
func (l *Log) Since(offset int64, max int) ([]byte, int64, bool) {
	start := l.end - int64(len(l.buf))
	if offset < start || offset > l.end {
		return nil, offset, offset == l.end
	}
	b := l.buf[offset-start:]
	if len(b) > max {
		b = b[:max]
	}
	return b, offset + int64(len(b)), true
}

// Snapshot is the state of a log at one moment. Its Bytes can be made while the log goes on.
type Snapshot struct {
	prelude []byte
	raw     []byte
}

// Snapshot copies the log.
func (l *Log) Snapshot() Snapshot {
	return Snapshot{prelude: l.lost.prelude(), raw: bytes.Clone(l.buf)}
}

// Bytes is what brings a fresh terminal to where the program's is.
func (s Snapshot) Bytes() []byte { return appendQuiet(s.prelude, s.raw) }

// Title is the window title that the program set last, "" when none is known.
func (l *Log) Title() string {
	at := max(bytes.LastIndex(l.buf, []byte("\x1b]0;")), bytes.LastIndex(l.buf, []byte("\x1b]2;")))
	if at < 0 {
		return l.lost.title
	}
	rest := l.buf[at+4:]
	end := bytes.IndexAny(rest, "\a\x1b\x18\x1a")
	if end < 0 || end > maxTitle {
		return l.lost.title
	}
	return string(rest[:end])
}
