package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"capsid/vmm/sparse"

	"golang.org/x/sys/unix"
)

// LinkLayers puts frozen layers, given from the bottom to the top, into a folder as the files disk.0, disk.1 and so on, and returns these names. They are hard links: the same
// files, which nobody may write any more. Where a link cannot be (another file system, too many links, a file of somebody else) the blocks are shared or else copied,
// holes and all. On an error nothing is left.
func LinkLayers(ctx context.Context, dst, disk string, layers ...string) (names []string, err error) {
	defer func() {
		if err != nil {
			for _, name := range names {
				err = errors.Join(err, os.Remove(filepath.Join(dst, name)))
			}
			names, err = nil, fmt.Errorf("link layers: %w", err)
		}
	}()
	for i, layer := range layers {
		name := fmt.Sprintf("%s.%d", disk, i)
		if err := linkOrCopy(ctx, filepath.Join(dst, name), layer); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

// LinkFile is LinkLayers for one file of any kind, with a path of its own.
func LinkFile(ctx context.Context, dst, src string) error {
	if err := linkOrCopy(ctx, dst, src); err != nil {
		return fmt.Errorf("link file: %w", err)
	}
	return nil
}

func linkOrCopy(ctx context.Context, dst, src string) error {
	from, err := openPlain(src)
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	defer from.Close()
	err = os.Link(src, dst)
	// EPERM: fs.protected_hardlinks, or a file system without hard links (link(2)).
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.EPERM) {
		return err
	}
	return copyFile(ctx, dst, from)
}

func copyFile(ctx context.Context, dst string, from *os.File) (err error) {
	to, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, to.Close())
		if err != nil {
			os.Remove(dst)
		}
	}()
	if clone(to, from) == nil {
		return to.Sync()
	}
	if err := copyData(ctx, to, from); err != nil {
		return err
	}
	return to.Sync()
}

// copyData copies what is no hole, zeros too: in a layer the two are different.
func copyData(ctx context.Context, to, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := to.Truncate(info.Size()); err != nil {
		return err
	}
	return sparse.Copy(ctx, to, from, info.Size(), true)
}
