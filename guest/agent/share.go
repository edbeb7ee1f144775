//go:build linux

package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"capsid/guest/control"
	"capsid/guest/link"

	"golang.org/x/sys/unix"
)

const (
	// fuseMessage bounds one FUSE message: the largest read or write that is agreed on, and its headers.
	fuseMessage = 1<<20 + 64<<10
	// fuseHeader is the size of struct fuse_out_header, whose first four bytes are the message's length.
	fuseHeader = 16
	shareTime  = time.Minute
)

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
	// Non-blocking, so that the runtime polls it and closing it wakes the reader.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		_ = stream.Close()
		return fmt.Errorf("mount %s: /dev/fuse: %w", m.Path, err)
	}
	var flags uintptr = unix.MS_NOSUID | unix.MS_NODEV
	if m.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d", fd, 1<<20)
	if err := unix.Mount("capsid:"+m.Tag, at, "fuse", flags, options); err != nil {
		_ = unix.Close(fd)
		_ = stream.Close()
		return fmt.Errorf("mount %s: %w", m.Path, err)
	}
	device := os.NewFile(uintptr(fd), "/dev/fuse")
	go func() {
		err := serveShare(device, stream)
		if err != nil {
			log("share %s: %v", m.Path, err)
		}
	}()
	return nil
}

// serveShare copies messages both ways until either side ends, and closes both. Programs that still use the folder get ENOTCONN.
func serveShare(device *os.File, stream link.Conn) error {
	ended := make(chan error, 2)
	go func() { ended <- copyRequests(stream, device) }()
	go func() { ended <- copyReplies(device, stream) }()
	err := <-ended
	_ = device.Close()
	_ = stream.Close()
	<-ended
	return err
}

// copyRequests: one read gives one whole request.
func copyRequests(w io.Writer, device io.Reader) error {
	buf := make([]byte, fuseMessage)
	for {
		n, err := device.Read(buf)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINTR):
			continue // the request was taken back
		case errors.Is(err, unix.ENODEV), errors.Is(err, io.EOF):
			return nil // unmounted
		case err != nil:
			return err
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// copyReplies: one write must give one whole reply.
func copyReplies(device io.Writer, r io.Reader) error {
	buf := make([]byte, fuseMessage)
	for {
		if _, err := io.ReadFull(r, buf[:4]); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the host ended it")
			}
			return err
		}
		n := binary.LittleEndian.Uint32(buf)
		if n < fuseHeader || n > fuseMessage {
			return fmt.Errorf("a reply of %d bytes", n)
		}
		if _, err := io.ReadFull(r, buf[4:n]); err != nil {
			return err
		}
		_, err := device.Write(buf[:n])
		switch {
		case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
			// ENOENT: whoever asked has been interrupted. EINVAL: the kernel does not take the reply; whoever asked gets an error.
		case errors.Is(err, unix.ENODEV):
			return nil
		default:
			return err
		}
	}
}
