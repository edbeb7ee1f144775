//go:build linux

package main

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// tail keeps the last bytes written to it, and hands all on.
type tail struct {
	mu   sync.Mutex
	b    []byte
	also []io.Writer
}

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = bytes.Clone(t.b[len(t.b)-tailSize:])
	}
	for _, w := range t.also {
		_, _ = w.Write(p) // a log that is full does not end the machine
	}
	return len(p), nil
}

// lines are those that are not empty, without carriage returns and other control characters.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for line := range strings.Lines(string(t.b)) {
		line = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == 0x7f {
				return -1
			}
			return r
		}, line)
		if strings.TrimSpace(line) != "" {
			list = append(list, line)
		}
	}
	return list
}
