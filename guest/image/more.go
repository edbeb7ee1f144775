package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoModules: the cache of builds has no modules for the image's kernel any more. A build with Refresh brings them back, with an image of their kernel.
var ErrNoModules = errors.New("no modules for the image's kernel")

// WriteModules writes an initramfs archive like modules.cpio with other modules of the image's kernel, and all that they need: names are modprobe's,
// with "_" for "-". It reads what builds leave in cache (empty: $XDG_CACHE_HOME/capsid), and takes a few seconds. Modules that the kernel has built in are left out.
func (i *Image) WriteModules(ctx context.Context, w io.Writer, cache string, names ...string) error {
	if cache == "" {
		var err error
		if cache, err = xdg("XDG_CACHE_HOME", ".cache"); err != nil {
			return err
		}
	}
	bases, err := filepath.Glob(filepath.Join(cache, "base", "*.tar.zst"))
	if err != nil {
		return err
	}
	var wanted []wantedModule
	for _, name := range names {
		wanted = append(wanted, wantedModule{name: name})
	}
	for _, base := range bases {
		entries, err := i.modulesOf(ctx, base, wanted)
		if errors.Is(err, ErrNoModules) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(base), err)
		}
		return writeArchive(w, entries)
	}
	return fmt.Errorf("%w %s in %s: capsid image build --refresh", ErrNoModules, i.Manifest.Kernel, cache)
}

// modulesOf finds modules in one base, if it is that which the image was made from.
func (i *Image) modulesOf(ctx context.Context, base string, wanted []wantedModule) ([]entry, error) {
	work, err := os.MkdirTemp("", "capsid-modules-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = removeTree(work) }()
	t, err := openTree(work)
	if err != nil {
		return nil, err
	}
	err = t.unpackZstd(ctx, base, func(name string) string {
		if to := placeBase(name); strings.HasPrefix(to, "kernel/") {
			return to
		}
		return ""
	})
	if err := errors.Join(err, t.finish()); err != nil {
		return nil, err
	}
	// A release may have been built twice; modules go with the very kernel that they came with.
	kernel, err := hashFile(ctx, filepath.Join(work, "kernel/boot/vmlinuz-"+i.Manifest.Kernel), nil)
	if errors.Is(err, os.ErrNotExist) || err == nil && kernel != i.Manifest.Files[packedFile] {
		return nil, ErrNoModules
	}
	if err != nil {
		return nil, err
	}
	modules, err := openModules(filepath.Join(work, "kernel/lib/modules", i.Manifest.Kernel))
	if err != nil {
		return nil, err
	}
	return modules.entries(wanted)
}
