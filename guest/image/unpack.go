package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// tree is a folder that archives are unpacked into. Nothing that they hold can reach outside it: os.Root resolves every name. Who
// owns what is not kept, since the image has all of it owned by root; so set-group-ID bits, which would then mean the group root, are dropped.
// Device nodes are left out: the guest's kernel makes them.
type tree struct {
	root *os.Root
	dirs []dirMode // modes and times are set at the end: a folder may be read-only
	size int64     // bytes of plain files
	n    int64     // entries
}

type dirMode struct {
	name string
	mode fs.FileMode
	time time.Time
}

func openTree(dir string) (*tree, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{root: root}, nil
}

// place says where an entry of an archive goes, as a path below the tree; empty leaves it out.
type place func(name string) string

func (t *tree) unpackZstd(ctx context.Context, name string, to place) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return err
	}
	defer z.Close()
	return t.unpack(ctx, z, to)
}

func (t *tree) unpackGzip(ctx context.Context, name string, to place) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	return t.unpack(ctx, z, to)
}

func (t *tree) unpack(ctx context.Context, r io.Reader, to place) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := to(path.Clean("/" + h.Name)[1:])
		if name == "" {
			continue
		}
		if err := t.entry(h, readerFunc(func(p []byte) (int, error) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			return tr.Read(p)
		}), name, to); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (t *tree) entry(h *tar.Header, r io.Reader, name string, to place) error {
	mode := h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSticky)
	if err := t.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	t.n++
	switch h.Typeflag {
	case tar.TypeDir:
		if err := t.root.MkdirAll(name, 0o755); err != nil {
			return err
		}
		t.dirs = append(t.dirs, dirMode{name, mode, h.ModTime})
		return nil
	case tar.TypeReg:
		// Whoever builds must be able to read it again, and a later package may replace it.
		if err := t.root.RemoveAll(name); err != nil {
			return err
		}
		f, err := t.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		n, err := io.Copy(f, r)
		t.size += n
		if err := errors.Join(err, f.Chmod(mode|0o400), f.Close()); err != nil {
			return err
		}
		return t.root.Chtimes(name, h.ModTime, h.ModTime)
	case tar.TypeSymlink:
		if err := t.root.RemoveAll(name); err != nil {
			return err
		}
		return t.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		target := to(path.Clean("/" + h.Linkname)[1:])
		if target == "" {
			return fmt.Errorf("a hard link to %s, which is left out", h.Linkname)
		}
		return t.root.Link(target, name)
	}
	return nil // devices, fifos
}

// write adds a file of our own.
func (t *tree) write(name string, mode fs.FileMode, data string) error {
	if err := t.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := t.root.RemoveAll(name); err != nil {
		return err
	}
	t.n++
	t.size += int64(len(data))
	if err := t.root.WriteFile(name, []byte(data), mode); err != nil {
		return err
	}
	return t.root.Chtimes(name, epoch(), epoch())
}

// link adds a symbolic link of our own.
func (t *tree) link(name, target string) error {
	if err := t.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := t.root.RemoveAll(name); err != nil {
		return err
	}
	t.n++
	return t.root.Symlink(target, name)
}

// finish sets what was held back of the folders, the deepest first, and closes the tree.
func (t *tree) finish() error {
	var errs []error
	for i := len(t.dirs) - 1; i >= 0; i-- {
		d := t.dirs[i]
		errs = append(errs, t.root.Chtimes(d.name, d.time, d.time), t.root.Chmod(d.name, d.mode|0o500))
	}
	return errors.Join(append(errs, t.root.Close())...)
}

// epoch is the time of files that have none of their own, so that the same inputs give the same image.
func epoch() time.Time { return time.Unix(1735689600, 0) } // 2025-01-01

// unusedDirs are folders of the distribution that nobody in the guest reads.
func unusedDirs() []string {
	return []string{"/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/locale", "/usr/share/lintian", "/usr/share/bug", "/usr/share/doc-base", "/usr/share/gcc"}
}

// placeBase says where the entries of the base tar go: the kernel's to kernel/, the rest to root/, less what a guest does not need or must not have,
// above all what tells of the host.
func placeBase(name string) string {
	if rest, ok := strings.CutPrefix(name, kernelDir+"/"); ok {
		rest = strings.TrimPrefix(rest, "usr/")
		if strings.HasPrefix(rest, "boot/vmlinuz-") || strings.HasPrefix(rest, "lib/modules/") {
			return "kernel/" + rest
		}
		return ""
	}
	for _, dir := range append(unusedDirs(), "/dev", "/boot", "/var/cache/apt", "/var/lib/apt/lists", "/var/log", "/usr/lib/modules", "/usr/lib/firmware", "/etc/apt/sources.list.d") {
		if strings.HasPrefix("/"+name, dir+"/") {
			return ""
		}
	}
	switch name {
	case "", kernelDir, "etc/resolv.conf", "etc/hostname", "etc/machine-id", "etc/.pwd.lock", "etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "etc/apt/sources.list":
		return ""
	}
	return "root/" + name
}
