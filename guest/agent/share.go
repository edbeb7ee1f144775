//go:build linux

package agent

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
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

// mountShare mounts a host folder and serves it until it is unmounted or the stream ends.
func mountShare(l link.Link, m control.Mount, log func(string, ...any)) error {
	at, err := reachable(m.Path)
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Path, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), shareTime)
	defer cancel()
	stream, err := l.Dial(ctx, link.Share)
	if err != nil {
		return fmt.Errorf("mount %s: the host's share: %w", m.Path, err)
	}
	if _, err := stream.Write(append([]byte{byte(len(m.Tag))}, m.Tag...)); err != nil {
		_ = stream.Close()
		return fmt.Errorf("mount %s: the host's share: %w", m.Path, err)
	}
	device, err := pump.Mount(at, m.ReadOnly)
	if err != nil {
		_ = stream.Close()
		return fmt.Errorf("mount %s: %w", m.Path, err)
	}
	go func() {
		if err := pump.Run(context.Background(), device, stream); err != nil {
			log("%s: %v", m.Path, err)
		}
	}()
	if err := pump.Settle(at); err != nil {
		log("%s: %v", m.Path, err) // slower, no more
	}
	return nil
}
