package share

import (
	"bytes"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// userAttr begins the only names that the guest sees: the others mean something to the host's kernel (capabilities, labels, lists of access rights).
	userAttr = "user."
	// maxAttrList is the kernel's bound (XATTR_LIST_MAX), and that of one value (XATTR_SIZE_MAX).
	maxAttrList = 64 << 10
)

// GetXAttr reads one attribute, or its size if dest is empty.
func (f *folder) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if !strings.HasPrefix(name, userAttr) {
		return 0, fuse.ENODATA
	}
	n, fd, err := f.pinned(in.NodeId)
	if err != nil {
		return 0, status(err)
	}
	defer f.nodes.release(n)
	size := 0
	err = retry(func() (err error) {
		size, err = unix.Getxattr(path(fd), name, dest)
		return err
	})
	if err != nil {
		return 0, status(err)
	}
	return uint32(size), fuse.OK
}

// ListXAttr lists names, or the size of the list if dest is empty.
func (f *folder) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n, fd, err := f.pinned(in.NodeId)
	if err != nil {
		return 0, status(err)
	}
	defer f.nodes.release(n)
	all := make([]byte, maxAttrList)
	size := 0
	err = retry(func() (err error) {
		size, err = unix.Listxattr(path(fd), all)
		return err
	})
	if err == unix.EOPNOTSUPP {
		return 0, fuse.OK
	}
	if err != nil {
		return 0, status(err)
	}
	var list []byte
	for name := range bytes.SplitAfterSeq(all[:size], []byte{0}) {
		if bytes.HasPrefix(name, []byte(userAttr)) {
			list = append(list, name...)
		}
	}
	if len(dest) > 0 && len(list) > len(dest) {
		return 0, fuse.ERANGE
	}
	copy(dest, list)
	return uint32(len(list)), fuse.OK
}

// SetXAttr sets one attribute.
func (f *folder) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	return f.changeAttr(in.NodeId, name, func(path string) error {
		return unix.Setxattr(path, name, data, int(in.Flags))
	})
}

// RemoveXAttr removes one attribute.
func (f *folder) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.changeAttr(in.NodeId, name, func(path string) error { return unix.Removexattr(path, name) })
}

func (f *folder) changeAttr(id uint64, name string, change func(path string) error) fuse.Status {
	switch {
	case f.readOnly:
		return fuse.EROFS
	case !strings.HasPrefix(name, userAttr):
		return status(unix.EOPNOTSUPP)
	}
	n, fd, err := f.pinned(id)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(n)
	return status(retry(func() error { return change(path(fd)) }))
}
