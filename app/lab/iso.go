//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The image's folder is a disk with an ISO 9660 file system (ECMA-119): there a file is one extent of sectors, so the disk can be put together of a head
// that is written and the image's own large files, which are not copied. QEMU's VMDK driver joins them. Linux mounts it with map=off, which leaves
// names as they are, so none of the standard's rules for names are kept.
const (
	isoSector = 2048
	// largeFile is from where on a file becomes an extent of the disk on its own.
	largeFile = 32 << 20
	// maxNames keeps the root directory in one sector.
	maxNames = 24
	maxName  = 40
)

// diskOptions are the options of mount(2) for the disk.
const diskOptions = "norock,nojoliet,map=off,check=strict,mode=0444,dmode=0555"

// isoFile is one file of the disk.
type isoFile struct {
	name, path string
	size       int64
	sector     uint32
}

func (f *isoFile) sectors() uint32 { return uint32((f.size + isoSector - 1) / isoSector) }

// large says whether the file stays where it is. Where it does not fill its last sector, QEMU reads zeros.
func (f *isoFile) large() bool { return f.size >= largeFile }

// writeDisk makes a disk of the files in dir, as files in work; the path of the one that describes it is returned.
func writeDisk(work, dir string) (string, error) {
	files, err := listFiles(dir)
	if err != nil {
		return "", err
	}
	// Descriptors at 16 and 17 (ECMA-119, 6.7), the root directory at 18.
	next := uint32(19)
	for pass := range 2 { // the small ones are in the head, the large follow it
		for _, f := range files {
			if f.large() == (pass == 1) {
				f.sector = next
				next += f.sectors()
			}
		}
	}
	head, err := os.Create(filepath.Join(work, "head.img"))
	if err != nil {
		return "", err
	}
	defer head.Close()
	if _, err := head.WriteAt(isoHead(files, next), 0); err != nil {
		return "", err
	}
	end := uint32(19)
	for _, f := range files {
		if f.large() {
			continue
		}
		if err := copyAt(head, f); err != nil {
			return "", err
		}
		end = max(end, f.sector+f.sectors())
	}
	if err := head.Truncate(int64(end) * isoSector); err != nil {
		return "", err
	}
	if err := head.Close(); err != nil {
		return "", err
	}
	return writeVMDK(work, files, end)
}

func listFiles(dir string) ([]*isoFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []*isoFile
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if len(e.Name()) > maxName || info.Size() >= 1<<32 {
			return nil, fmt.Errorf("%s: its name or it is too long", path)
		}
		files = append(files, &isoFile{name: e.Name(), path: path, size: info.Size()})
	}
	if len(files) > maxNames {
		return nil, fmt.Errorf("%s: more than %d files", dir, maxNames)
	}
	return files, nil
}

// isoHead is all up to the first file: 16 empty sectors, two descriptors and the root directory.
func isoHead(files []*isoFile, total uint32) []byte {
	b := make([]byte, 19*isoSector)
	root := isoRecord("\x00", 18, isoSector, true)
	primary := b[16*isoSector:] // 8.4
	primary[0], primary[6] = 1, 1
	copy(primary[1:], "CD001")
	put32(primary[80:], total)
	put16(primary[120:], 1) // volumes in the set
	put16(primary[124:], 1) // number of this one
	put16(primary[128:], isoSector)
	copy(primary[156:], root)
	primary[881] = 1
	end := b[17*isoSector:] // 8.3
	end[0], end[6] = 255, 1
	copy(end[1:], "CD001")
	dir := b[18*isoSector : 18*isoSector]
	dir = append(dir, root...)
	dir = append(dir, isoRecord("\x01", 18, isoSector, true)...)
	for _, f := range files {
		dir = append(dir, isoRecord(f.name, f.sector, uint32(f.size), false)...)
	}
	return b
}

// isoRecord is a directory record (9.1). Its time stays zero.
func isoRecord(name string, sector, size uint32, dir bool) []byte {
	b := make([]byte, 33+len(name)+(len(name)+1)%2) // even
	b[0] = byte(len(b))
	put32(b[2:], sector)
	put32(b[10:], size)
	copy(b[18:], []byte{70, 1, 1}) // 1970-01-01: months and days begin at 1
	if dir {
		b[25] = 2
	}
	put16(b[28:], 1)
	b[32] = byte(len(name))
	copy(b[33:], name)
	return b
}

// Numbers are recorded in both byte orders (7.2.3, 7.3.3).
func put16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func put32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func copyAt(head *os.File, f *isoFile) error {
	src, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer src.Close()
	n, err := io.Copy(io.NewOffsetWriter(head, int64(f.sector)*isoSector), io.LimitReader(src, f.size))
	if err == nil && n != f.size {
		err = fmt.Errorf("%s: %w", f.path, io.ErrUnexpectedEOF)
	}
	return err
}

// writeVMDK describes the disk (VMware's Virtual Disk Format 1.1, "The Text Descriptor"). Files are named by links beside it, since a name in it cannot be quoted.
// There is no empty line: QEMU takes the line after one twice.
func writeVMDK(work string, files []*isoFile, head uint32) (string, error) {
	const perSector = isoSector / 512
	var text strings.Builder
	text.WriteString("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n")
	fmt.Fprintf(&text, "RW %d FLAT \"head.img\" 0\n", head*perSector)
	var errs []error
	for i, f := range files {
		if f.large() {
			name := fmt.Sprintf("large%d.img", i)
			errs = append(errs, os.Symlink(f.path, filepath.Join(work, name)))
			fmt.Fprintf(&text, "RW %d FLAT \"%s\" 0\n", f.sectors()*perSector, name)
		}
	}
	text.WriteString("ddb.virtualHWVersion = \"4\"\nddb.adapterType = \"ide\"\n")
	path := filepath.Join(work, "image.vmdk")
	return path, errors.Join(append(errs, os.WriteFile(path, []byte(text.String()), 0o600))...)
}
