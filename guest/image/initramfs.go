package image

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"sort"

	"github.com/cavaliergopher/cpio"
)

// entry is one file of an initramfs. Its path is absolute; the folders above it are made.
type entry struct {
	path string
	mode uint32 // permission bits
	data []byte
}

// writeArchive writes entries as one cpio archive ("newc", the only kind that Linux unpacks). The same entries give the same bytes:
// everything belongs to root, times are zero, and the order is that of the paths. The kernel takes several archives one after another,
// so the parts of an initramfs are written apart: the modules change with the kernel, the agent with every build of Capsid.
func writeArchive(w io.Writer, entries []entry) error {
	sorted := append([]entry(nil), entries...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].path < sorted[j].path })
	counter := &countingWriter{w: w}
	cw := cpio.NewWriter(counter)
	made := map[string]bool{"/": true, ".": true}
	for _, e := range sorted {
		if err := writeFolders(cw, path.Dir(e.path), made); err != nil {
			return err
		}
		h := &cpio.Header{Name: e.path[1:], Mode: cpio.TypeReg | cpio.FileMode(e.mode), Size: int64(len(e.data)), Links: 1}
		if err := cw.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", e.path, err)
		}
		if _, err := cw.Write(e.data); err != nil {
			return fmt.Errorf("%s: %w", e.path, err)
		}
	}
	if err := cw.Close(); err != nil {
		return err
	}
	// The next archive must begin at a multiple of four; 512 is what cpio programs pad to.
	if rest := counter.n % 512; rest != 0 {
		_, err := counter.Write(bytes.Repeat([]byte{0}, int(512-rest)))
		return err
	}
	return nil
}

// nullDevice is an archive that holds /dev/null alone. A program in Go that finds no console open needs it before its first own instruction
// (runtime/fds_unix.go), and a console may be there only after its driver was loaded. The cpio package writes no devices.
func nullDevice() []byte {
	var b []byte
	member := func(name string, mode, rdevMajor, rdevMinor uint32) {
		// Documentation/driver-api/early-userspace/buffer-format.rst: ino, mode, uid, gid, nlink, mtime, size, device, rdevice, length of the name, checksum.
		b = fmt.Appendf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0, mode, 0, 0, 1, 0, 0, 0, 0, rdevMajor, rdevMinor, len(name)+1, 0)
		b = append(append(b, name...), 0)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	member("dev", 0o040755, 0, 0)
	member("dev/null", 0o020666, 1, 3)
	member("TRAILER!!!", 0, 0, 0)
	return append(b, make([]byte, (512-len(b)%512)%512)...)
}

func writeFolders(cw *cpio.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := writeFolders(cw, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	if err := cw.WriteHeader(&cpio.Header{Name: dir[1:], Mode: cpio.TypeDir | 0o755, Links: 2}); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
