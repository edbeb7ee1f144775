//go:build linux

package reap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a cgroup (Documentation/admin-guide/cgroup-v2.rst) in which a reaper's processes begin, with all that they start. They can be frozen together.
type Group struct {
	path string
	dir  *os.File

	// starting is held for reading while a process is started, and for writing while the group is frozen: a process that is frozen before it runs its
	// program would hold up the one that starts it.
	starting sync.RWMutex
	mu       sync.Mutex
	frozen   bool
}

// NewGroup makes the cgroup at path, or takes the one that is there.
func NewGroup(path string) (*Group, error) {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return &Group{path: path, dir: dir}, nil
}

// Use has the processes of r begin in g. It is called before any is started.
func (r *Reaper) Use(g *Group) { r.group = g }

// Freeze stops every process of the group and waits until none runs, at most for the given time; if that fails they all run on. Meanwhile Start waits. A second
// Freeze does nothing.
func (g *Group) Freeze(atMost time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen {
		return nil
	}
	g.starting.Lock()
	if err := g.set("1"); err != nil {
		g.starting.Unlock()
		return fmt.Errorf("freeze: %w", err)
	}
	g.frozen = true
	if err := g.await(time.Now().Add(atMost)); err != nil {
		return errors.Join(fmt.Errorf("freeze: %w", err), g.thaw())
	}
	return nil
}

// Thaw lets them run on. It does nothing when they do.
func (g *Group) Thaw() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.frozen {
		return nil
	}
	return g.thaw()
}

func (g *Group) thaw() error {
	if err := g.set("0"); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	g.frozen = false
	g.starting.Unlock()
	return nil
}

func (g *Group) set(value string) error {
	f, err := os.OpenFile(filepath.Join(g.path, "cgroup.freeze"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// await waits for the kernel's word that all are frozen: a process is when it next leaves the kernel, which it may be waiting in.
func (g *Group) await(deadline time.Time) error {
	f, err := os.Open(filepath.Join(g.path, "cgroup.events"))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 256)
	for {
		n, err := f.ReadAt(buf, 0)
		if n == 0 {
			return err
		}
		if strings.Contains(string(buf[:n]), "frozen 1") {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("a process does not come to rest")
		}
		// The file tells of changes since it was last read by POLLPRI.
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(p, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
