package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pkg/sftp"
)

// maxDepth bounds folders in folders: a hostile server of files can make up more for ever.
const maxDepth = 200

// copyOut copies out of a machine that is not trusted. Everything is made through an os.Root, which lets nothing lead out of it: no "..", no absolute
// name, no symbolic link, be it there before or made by this copy.
type copyOut struct {
	ctx      context.Context
	files    *sftp.Client
	root     *os.Root
	progress *copyMeter
	skipped  []string
}

func (c *copyOut) copy(src, dst string, info fs.FileInfo, depth int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: folders lie too deep", src)
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return c.folder(src, dst, mode, depth)
	case mode.IsRegular():
		return c.file(src, dst, mode)
	case mode&fs.ModeSymlink != 0:
		return c.link(src, dst)
	}
	c.skip(src + " (neither file, folder nor link)")
	return nil
}

func (c *copyOut) skip(what string) {
	if len(c.skipped) < 1000 {
		c.skipped = append(c.skipped, what)
	}
}

func (c *copyOut) folder(src, dst string, mode fs.FileMode, depth int) error {
	if dst != "." {
		// Writable by us until it is full; Mkdir on what is there already is no fault if that is a folder.
		if err := c.root.Mkdir(dst, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if fi, err := c.root.Lstat(dst); err != nil || !fi.IsDir() {
			return fmt.Errorf("%s is in the way", dst)
		}
	}
	list, err := c.files.ReadDirContext(c.ctx, src)
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	for _, info := range list {
		name := info.Name()
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("%s: the machine claims a file named %q", src, name)
		}
		if err := c.copy(path.Join(src, name), filepath.Join(dst, name), info, depth+1); err != nil {
			return err
		}
	}
	if dst == "." {
		return nil
	}
	return c.root.Chmod(dst, mode.Perm())
}

func (c *copyOut) file(src, dst string, mode fs.FileMode) (err error) {
	in, err := c.files.Open(src)
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	defer in.Close()
	// What is there is replaced, not written into: it may be a link, or something else than a file.
	if err := c.root.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := c.root.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			c.root.Remove(dst)
		}
	}()
	c.progress.file(dst)
	if _, err := in.WriteTo(io.MultiWriter(out, c.progress)); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	return out.Chmod(mode.Perm()) // no set-uid bit comes out of a machine
}

// link makes a symbolic link that stays below its own folder; any other could lead the person who uses the copy elsewhere.
func (c *copyOut) link(src, dst string) error {
	target, err := c.files.ReadLink(src)
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	if !filepath.IsLocal(target) {
		c.skip(src + " (a link to " + target + ")")
		return nil
	}
	if err := c.root.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.root.Symlink(target, dst)
}

// copyIn copies into a machine.
type copyIn struct {
	ctx      context.Context
	files    *sftp.Client
	progress *copyMeter
	skipped  []string
}

func (c *copyIn) copy(src, dst string, info fs.FileInfo) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return c.folder(src, dst, mode)
	case mode.IsRegular():
		return c.file(src, dst, mode)
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		c.files.Remove(dst) // Symlink tells if something is still there
		if err := c.files.Symlink(target, dst); err != nil {
			return fmt.Errorf("%s: %w", dst, err)
		}
		return nil
	}
	c.skipped = append(c.skipped, src+" (neither file, folder nor link)")
	return nil
}

func (c *copyIn) folder(src, dst string, mode fs.FileMode) error {
	list, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	if err := c.files.MkdirAll(dst); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := c.copy(filepath.Join(src, e.Name()), path.Join(dst, e.Name()), info); err != nil {
			return err
		}
	}
	return c.chmod(dst, mode)
}

func (c *copyIn) file(src, dst string, mode fs.FileMode) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.files.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	defer func() {
		if cerr := out.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("%s: %w", dst, cerr)
		}
	}()
	c.progress.file(dst)
	if _, err := out.ReadFrom(io.TeeReader(in, c.progress)); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	return c.chmod(dst, mode)
}

func (c *copyIn) chmod(dst string, mode fs.FileMode) error {
	if err := c.files.Chmod(dst, mode.Perm()); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	return nil
}

// copyMeter shows how a copy goes on, on terminals.
type copyMeter struct {
	term  *term
	live  bool
	name  string
	files int
	bytes int64
	begun time.Time
	drawn time.Time
}

func (t *term) copyProgress() *copyMeter {
	return &copyMeter{term: t, live: isTerminal(t.errFile), begun: time.Now()}
}

func (m *copyMeter) file(name string) {
	m.name = name
	m.files++
	m.draw(false)
}

func (m *copyMeter) Write(p []byte) (int, error) {
	m.bytes += int64(len(p))
	m.draw(false)
	return len(p), nil
}

func (m *copyMeter) draw(last bool) {
	if !m.live || !last && time.Since(m.drawn) < 100*time.Millisecond {
		return
	}
	m.drawn = time.Now()
	name := m.name
	fmt.Fprintf(m.term.err, "\r\x1b[K%d files, %s  %s", m.files, bytesText(m.bytes), cut(plain(name), 40))
}

func (m *copyMeter) end() {
	if m.live {
		fmt.Fprintf(m.term.err, "\r\x1b[K%d files, %s in %s\n", m.files, bytesText(m.bytes), short(time.Since(m.begun)))
	}
}
