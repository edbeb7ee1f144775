//go:build linux

package agent

import (
	"sync"
	"time"

	"capsid/guest/control"

	"golang.org/x/sys/unix"
)

// sinceKernel is the time since the kernel started.
func sinceKernel() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// steps measures what the start spends its time on.
type steps struct {
	mu   sync.Mutex
	last time.Duration
	list []control.StepTime
}

// done ends the step that began where the one before ended.
func (s *steps) done(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := sinceKernel()
	s.list = append(s.list, control.StepTime{Name: name, Duration: now - s.last})
	s.last = now
}

func (s *steps) all() []control.StepTime {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]control.StepTime(nil), s.list...)
}
