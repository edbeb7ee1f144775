package soft

import (
	"errors"
	"io"
	"os"
)

// openBootFile opens the kernel or the initramfs for QEMU, which opens it once more by its descriptor: where QEMU, which is nobody when this program is
// root, may not do that, it gets a copy in dir that has no name.
//
// QEMU enters a kernel that is an ELF file by its PVH note. A bzImage unpacks itself, which takes an emulated processor longer than the whole rest of
// the kernel's start.
func openBootFile(path, dir string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (os.Geteuid() != 0 || info.Mode()&0o004 != 0) {
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	c, err := os.CreateTemp(dir, "boot-*")
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Remove(c.Name()), c.Chmod(0o444))
	if err == nil {
		_, err = io.Copy(c, f)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
