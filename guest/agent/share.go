//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"capsid/guest/control"
	"capsid/guest/link"
	"capsid/guest/share/pump"
)

// shareTime bounds the wait for the host to take a share's stream.
const shareTime = time.Minute

// checkMount refuses mount points that the machine could not live with.
func checkMount(m control.Mount) error {
	if len(m.Tag) == 0 || len(m.Tag) > 255 {
		return fmt.Errorf("mount %s: a tag has 1 to 255 bytes", m.Path)
	}
	rel, err := below(m.Path)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	first, _, _ := strings.Cut(rel, "/")
	if slices.Contains([]string{"proc", "sys", "dev", "run"}, first) || slices.Contains([]string{"etc", "usr", "bin", "sbin", "lib", "lib64", "var", "home", "root", "tmp"}, rel) {
		return fmt.Errorf("mount %s: the machine's own folders cannot be replaced by a host folder", m.Path)
	}
	return nil
}

// reachable makes a mount point, and lets everybody walk down to it: on the host the way may lead through a folder that belongs to
// root alone, whose namesake in the guest guards nothing. It returns the path without links.
func reachable(at string) (string, error) {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return "", err
	}
	at, err := filepath.EvalSymlinks(at)
	if err != nil {
		return "", err
	}
	for dir := path.Dir(at); dir != "/"; dir = path.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			return "", err
		}
		if st.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(dir, st.Mode().Perm()|0o001); err != nil {
				return "", err
			}
		}
	}
	return at, nil
}

// mountShare mounts a host folder and serves it until it is unmounted or the host is gone. When its stream breaks because the machine was
// restored, the pump goes on with another.
func mountShare(l link.Link, m control.Mount, log func(string, ...any)) (*pump.Pump, error) {
	at, err := reachable(m.Path)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", m.Path, err)
	}
	dial := func(ctx context.Context) (pump.Stream, error) { return dialShare(ctx, l, m.Tag) }
	ctx, cancel := context.WithTimeout(context.Background(), shareTime)
	defer cancel()
	stream, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("mount %s: the host's share: %w", m.Path, err)
	}
	device, err := pump.Mount(at, m.ReadOnly)
	if err != nil {
		_ = stream.Close()
		return nil, fmt.Errorf("mount %s: %w", m.Path, err)
	}
	p := pump.New(device, stream, dial)
	go func() {
		if err := p.Run(context.Background()); err != nil {
			log("%s: %v", m.Path, err)
		}
	}()
	if err := pump.Settle(at); err != nil {
		log("%s: %v", m.Path, err) // slower, no more
	}
	return p, nil
}

// dialShare opens a stream of a share.
func dialShare(ctx context.Context, l link.Link, tag string) (pump.Stream, error) {
	stream, err := l.Dial(ctx, link.Share)
	if err != nil {
		select {
		case <-l.Done():
			return nil, fmt.Errorf("%w: %w", pump.ErrGone, err)
		default:
			return nil, err
		}
	}
	if _, err := stream.Write(append([]byte{byte(len(tag))}, tag...)); err != nil {
		_ = stream.Close()
		return nil, err
	}
	return stream, nil
}

// shares are the mounted folders of the host.
type shares struct {
	mu    sync.Mutex
	pumps []*pump.Pump
}

func (s *shares) add(p *pump.Pump) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pumps = append(s.pumps, p)
}

func (s *shares) list() []*pump.Pump {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pumps)
}

// freeze returns when nothing is on its way to the host, and nothing will be until thaw: all or none are frozen. Who uses the folders must have been stopped
// before, and this process must not use them itself.
func (s *shares) freeze(ctx context.Context) error {
	for _, p := range s.list() {
		if err := p.Freeze(ctx); err != nil {
			s.thaw()
			return err
		}
	}
	return nil
}

// thaw lets the folders be used again.
func (s *shares) thaw() {
	for _, p := range s.list() {
		p.Thaw()
	}
}

// freeze stops the programs, and then the folders that they use.
func (m *machine) freeze() error {
	if err := m.group.Freeze(freezeTime); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), freezeTime)
	defer cancel()
	if err := m.shares.freeze(ctx); err != nil {
		return errors.Join(err, m.group.Thaw())
	}
	return nil
}

// thaw lets both go on.
func (m *machine) thaw() error {
	m.shares.thaw()
	return m.group.Thaw()
}
