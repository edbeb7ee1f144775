package vmmtest

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
)

// Options name the image under test.
type Options struct {
	// Kernel and Initrd are paths. Empty means those of the folder that the environment's CAPSID_TEST_IMAGE names, or
	// else of the newest image of the person who runs the test.
	Kernel, Initrd string
	// OneAtATime keeps machines from running side by side, where the host cannot bear that.
	OneAtATime bool

	imageDir string
}

const (
	imageVariable = "CAPSID_TEST_IMAGE"
	kernelFile    = "vmlinux"
	initrdFile    = "initrd.img"
)

// resolve finds the image and puts the test binary into a copy of its initramfs. A suite without an image has failed, not passed.
func (o Options) resolve(t testing.TB) Options {
	t.Helper()
	if o.Kernel == "" || o.Initrd == "" {
		dir, err := findImage()
		if err != nil {
			t.Fatalf("%v; build one by make image, or name its folder in %s", err, imageVariable)
		}
		o.Kernel, o.Initrd, o.imageDir = filepath.Join(dir, kernelFile), filepath.Join(dir, initrdFile), dir
	}
	initrd := filepath.Join(t.TempDir(), initrdFile)
	if err := appendInit(initrd, o.Initrd); err != nil {
		t.Fatalf("initramfs for the test: %v", err)
	}
	o.Initrd = initrd
	return o
}

func findImage() (string, error) {
	if dir := os.Getenv(imageVariable); dir != "" {
		return dir, nil
	}
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		data = filepath.Join(os.Getenv("HOME"), ".local", "share")
	}
	// Images share their kernel, not their initramfs, and those of older builds have no kernel of this name.
	initrds, _ := filepath.Glob(filepath.Join(data, "capsid", "images", "*", initrdFile))
	var newest string
	var when time.Time
	for _, path := range initrds {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), kernelFile)); err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.ModTime().After(when) {
			newest, when = filepath.Dir(path), info.ModTime()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("no image in %s", filepath.Join(data, "capsid", "images"))
	}
	return newest, nil
}

// appendInit copies an initramfs and adds a cpio archive with this program as /init. The kernel unpacks archives that follow each other, and
// a later file replaces an earlier (Documentation/driver-api/early-userspace/buffer-format.rst).
func appendInit(dst, src string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := checkStatic(self); err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	image, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	f, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer f.Close()
	for len(image)%4 != 0 { // an archive begins at a multiple of four
		image = append(image, 0)
	}
	if _, err := f.Write(image); err != nil {
		return err
	}
	w := cpio.NewWriter(f)
	if err := w.WriteHeader(&cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(program))}); err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	return w.Close()
}

func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("the test binary needs libraries: test with CGO_ENABLED=0 and without -race")
		}
	}
	return nil
}
