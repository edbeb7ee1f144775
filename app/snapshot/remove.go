package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Freed is what removing a folder gives back to the disk, in bytes: the blocks of files that have no link elsewhere. Blocks that files share (reflinks) count for
// each. Folders within it count too, so that a session's folder can be asked about.
func Freed(dir string) int64 {
	type seen struct {
		here uint64
		inode
	}
	files := map[[2]uint64]seen{}
	var sum int64
	filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile, or not ours to see: it is not counted
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		n := inodeOf(info)
		if info.IsDir() {
			sum += n.bytes
			return nil
		}
		key := [2]uint64{n.dev, n.ino}
		files[key] = seen{files[key].here + 1, n}
		return nil
	})
	for _, s := range files {
		if s.here >= s.links {
			sum += s.bytes
		}
	}
	return sum
}

// Size is what a snapshot takes on disk, in bytes, whoever else has links to its files.
func (s *Snapshot) Size() int64 {
	var sum int64
	for name := range s.Manifest.Files {
		if info, err := os.Lstat(s.Path(name)); err == nil {
			sum += inodeOf(info).bytes
		}
	}
	return sum
}

// Remove takes a snapshot away, whatever state it is in. It is refused with ErrChildren when children has any: their own files are independent of it,
// but the tree would not say any more where they came from. Cascading callers remove those first.
func Remove(dir string, children []Ref) error { return remove(dir, children, noStep) }

func remove(dir string, children []Ref, at step) error {
	folder, name := filepath.Split(filepath.Clean(dir))
	if err := CheckName(name); err != nil {
		return err
	}
	if len(children) > 0 {
		names := make([]string, len(children))
		for i, c := range children {
			names[i] = c.String()
		}
		return Refused(name, names)
	}
	if err := discard(filepath.Clean(folder), name, at); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return unknown(name)
		}
		return fmt.Errorf("remove snapshot %q: %w", name, err)
	}
	return nil
}

// discard lets the folder lose its name first, so that nobody sees half of it.
func discard(folder, name string, at step) error {
	if _, err := os.Lstat(filepath.Join(folder, name)); err != nil {
		return err
	}
	mutex, err := lockFolder(folder)
	if err != nil {
		return err
	}
	defer mutex.Close()
	sweep(folder) // so that no folder of this name is in the way
	if err := at("rename", name); err != nil {
		return err
	}
	old := filepath.Join(folder, oldPrefix+name)
	if err := os.Rename(filepath.Join(folder, name), old); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("%s cannot be removed", old)
		}
		return err
	}
	if err := syncPath(folder); err != nil {
		return err
	}
	if err := at("remove", old); err != nil {
		return err
	}
	return os.RemoveAll(old)
}
