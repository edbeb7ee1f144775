package snapshot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataExtents are the parts of a file that are no holes (lseek(2)), rounded to pages, in order and apart.
func dataExtents(f *os.File, size int64) ([]extent, error) {
	var out []extent
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
		e := extent{data &^ (pageSize - 1), min((hole+pageSize-1)&^(pageSize-1), size)}
		if n := len(out); n > 0 && out[n-1].end >= e.start {
			out[n-1].end = e.end
		} else if e.start < e.end {
			out = append(out, e)
		}
	}
	return out, nil
}

// clone makes to share from's blocks, which few file systems can.
func clone(to, from *os.File) error {
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
}
