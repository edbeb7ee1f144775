package sparse

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Extents are the parts of a file of size bytes that are no holes (lseek(2)), rounded to pages, in order and apart.
func Extents(f *os.File, size int64) ([]Extent, error) {
	var out []Extent
	fd := int(f.Fd())
	for at := int64(0); at < size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, os.NewSyscallError("lseek", err)
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, os.NewSyscallError("lseek", err)
		}
		at = hole
		out = Add(out, Extent{data &^ (Page - 1), min((hole+Page-1)&^(Page-1), size)})
	}
	return out, nil
}
