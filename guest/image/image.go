// Package image builds and keeps what a machine boots from: a kernel, an initramfs with the guest agent and the modules that it loads,
// and a read-only root file system with the coding agents and the tools that they reach for.
//
// An image is a folder named for its digest, below a folder of images ($XDG_DATA_HOME/capsid/images):
//
//	manifest.json  what the image is made of, with the SHA-256 of every other file
//	vmlinuz        the distribution's kernel, as its package ships it
//	vmlinux        the same unpacked, as machines are entered: an ELF file, or on arm64 an Image
//	initrd.img     modules.cpio and the agent's archive, one after the other
//	modules.cpio   the part of the initramfs that comes with the kernel
//	root.erofs     the root file system, EROFS, everything owned by root
//
// An image never changes. Build makes a new one or finds that one with the same inputs is there; it appears by a rename when it is
// whole, or not at all. When only the agent has changed, the new image shares kernel and root with the old one by hard links.
//
// The packages come from the mirror that the host's own apt is configured for, and the agents from npm as the host's npm is configured,
// at the versions and integrity digests of lock.toml. No script of an npm package is run.
package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// The files of an image.
const (
	packedFile   = "vmlinuz"
	kernelFile   = "vmlinux"
	initrdFile   = "initrd.img"
	modulesFile  = "modules.cpio"
	rootFile     = "root.erofs"
	manifestFile = "manifest.json"
)

var (
	// ErrNone: there is no image. "capsid image build" makes one.
	ErrNone = errors.New("no image")
	// ErrCorrupt: a file of the image is not what its manifest says. The error names the file.
	ErrCorrupt = errors.New("image is corrupt")
	// ErrBuilding: another build holds the folder of images.
	ErrBuilding = errors.New("another image build is running")
	// ErrTools: programs that a build needs are missing on this host. The error names them and what installs them.
	ErrTools = errors.New("image build needs programs that are missing")
)

// Image is one whole image on disk.
type Image struct {
	Dir      string
	Digest   string // 64 hexadecimal digits, over the files' digests; the folder's name
	Manifest Manifest
}

// Kernel, Initrd and Root are the paths of the files that a machine needs. Images of older builds have the kernel only as its package ships it.
func (i *Image) Kernel() string {
	if _, ok := i.Manifest.Files[kernelFile]; !ok {
		return filepath.Join(i.Dir, packedFile)
	}
	return filepath.Join(i.Dir, kernelFile)
}

func (i *Image) Initrd() string { return filepath.Join(i.Dir, initrdFile) }
func (i *Image) Root() string   { return filepath.Join(i.Dir, rootFile) }

// Size is what the image takes on disk, in bytes, and how much of that it shares with other images.
func (i *Image) Size() (total, shared int64) {
	for name := range i.Manifest.Files {
		info, err := os.Stat(filepath.Join(i.Dir, name))
		if err != nil {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		total += st.Blocks * 512
		if st.Nlink > 1 {
			shared += st.Blocks * 512
		}
	}
	return total, shared
}

// DefaultRoot is the folder of images of this user: $XDG_DATA_HOME/capsid/images.
func DefaultRoot() (string, error) {
	dir, err := xdg("XDG_DATA_HOME", ".local/share")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "images"), nil
}

// xdg is the program's folder in one of the base directories. The specification has relative values ignored.
func xdg(variable, fallback string) (string, error) {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "capsid"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("image: %w: set HOME or %s", err, variable)
	}
	return filepath.Join(home, fallback, "capsid"), nil
}

// Open opens the image in dir. It checks that all files are there with their sizes, and that the folder's name is the digest of the manifest,
// which takes no time; Verify reads them all.
func Open(dir string) (*Image, error) {
	m, err := readManifest(filepath.Join(dir, manifestFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: capsid image build makes one", ErrNone, dir)
	}
	if err != nil {
		return nil, err
	}
	img := &Image{Dir: dir, Digest: m.digest(), Manifest: *m}
	if name := filepath.Base(dir); name != img.Digest {
		return nil, corrupt(manifestFile, "its digest is "+img.Digest[:12]+", not the folder's name")
	}
	return img, img.checkSizes()
}

// List opens all images below root, the newest first. Folders that hold no whole image are left out, and named in skipped.
func List(root string) (images []*Image, skipped []error, err error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("images: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() {
			continue
		}
		img, err := Open(filepath.Join(root, e.Name()))
		if err != nil {
			skipped = append(skipped, fmt.Errorf("%s: %w", e.Name(), err))
			continue
		}
		images = append(images, img)
	}
	sort.SliceStable(images, func(i, j int) bool { return images[i].Manifest.Created.After(images[j].Manifest.Created) })
	return images, skipped, nil
}

// Latest is the newest image below root; ErrNone when there is none, and the reason when there are only broken ones.
func Latest(root string) (*Image, error) {
	images, skipped, err := List(root)
	switch {
	case err != nil:
		return nil, err
	case len(images) > 0:
		return images[0], nil
	case len(skipped) > 0:
		return nil, skipped[0]
	}
	return nil, fmt.Errorf("%w in %s: capsid image build makes one", ErrNone, root)
}

// Remove deletes an image. Machines that run from it keep its files open and go on. Files shared with other images stay there.
func Remove(dir string) error {
	root, name := filepath.Split(filepath.Clean(dir))
	if _, err := os.Lstat(filepath.Join(dir, manifestFile)); err != nil {
		return fmt.Errorf("%w in %s", ErrNone, dir)
	}
	// One rename takes it out of the list, so that a removal that is interrupted leaves no half image there; the next build sweeps the rest.
	gone := filepath.Join(root, fmt.Sprintf("%sremoved-%s-%d", scratchPrefix, name[:min(12, len(name))], time.Now().UnixNano()))
	if err := os.Rename(dir, gone); err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	return nil
}
