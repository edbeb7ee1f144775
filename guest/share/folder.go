package share

import (
	"errors"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// fresh is how long the guest may believe names and attributes. A change on the host is to be seen within a second, the way
	// to ask included.
	fresh = 750 * time.Millisecond
	// blockSize is the size that programs in the guest read and write by (st_blksize): each call is a round trip to the host.
	blockSize = 128 << 10
	// nobody owns in the guest what the host user does not own.
	nobody = 65534
	// idBits is the part of an inode number that the guest sees which marks a file of another file system than the root's.
	foreign = 1 << 63
)

// owners says who owns files here and there.
type owners struct {
	HostUID, HostGID, GuestUID, GuestGID uint32
}

// limits bound what one guest may make the process hold.
type limits struct {
	nodes       int // files known by number
	descriptors int // of idle nodes
	handles     int // open files and folders
}

// folder is a fuse.RawFileSystem over one folder of the host.
type folder struct {
	fuse.RawFileSystem // answers ENOSYS to what is not here
	nodes              *nodes
	handles            *handles
	proc               int // /proc/self/fd, O_PATH: the way from a reference to an open file
	root               int
	dev                uint64 // the root's device
	owners             owners
	readOnly           bool
}

// newFolder serves the folder that root refers to; it takes root over, and proc it borrows.
func newFolder(root, proc int, who owners, readOnly bool, most limits) (*folder, error) {
	st, err := statAt(root, "")
	if err != nil {
		return nil, err
	}
	key := identify(&st)
	if key.kind != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	f := &folder{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		nodes:         newNodes(root, key, most.nodes, most.descriptors),
		proc:          proc,
		root:          root,
		dev:           key.dev,
		owners:        who,
		readOnly:      readOnly,
	}
	f.handles = &handles{byID: map[uint64]*handle{}, limit: most.handles, nodes: f.nodes}
	return f, nil
}

// close ends the file system; no request may be in progress.
func (f *folder) close() {
	f.handles.closeAll()
	f.nodes.closeAll()
}

func (f *folder) String() string { return "capsid" }

// status is the errno that the guest gets.
func status(err error) fuse.Status {
	var errno unix.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.As(err, &errno):
		return fuse.Status(errno)
	}
	return fuse.EIO
}

// pinned finds the node that the guest named and its descriptor. Release it after use.
func (f *folder) pinned(id uint64) (*node, int, error) {
	n, err := f.nodes.get(id)
	if err != nil {
		return nil, -1, err
	}
	fd, err := f.nodes.pin(n)
	if err != nil {
		return nil, -1, err
	}
	return n, fd, nil
}

// parent is pinned for a folder in which something is changed.
func (f *folder) parent(id uint64) (*node, int, error) {
	if f.readOnly {
		return nil, -1, unix.EROFS
	}
	n, fd, err := f.pinned(id)
	if err == nil && n.key.kind != unix.S_IFDIR {
		f.nodes.release(n)
		return nil, -1, unix.ENOTDIR
	}
	return n, fd, err
}

// reference is the path of a descriptor below f.proc. Opening it opens that very file, whatever its name is by now.
func reference(fd int) string { return strconv.Itoa(fd) }

// path is the same for calls that take no folder descriptor.
func path(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reopen opens the file that fd refers to; the caller knows that it is a regular file or a folder.
func (f *folder) reopen(fd, flags int) (int, error) {
	var opened int
	err := retry(func() (err error) {
		opened, err = unix.Openat(f.proc, reference(fd), flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		return err
	})
	return opened, err
}

// Lookup finds a name.
func (f *folder) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent, dir, err := f.pinned(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(parent)
	return status(f.entry(parent, dir, name, out))
}

// entry tells the guest of name in parent, whose descriptor is dir, and counts that it did.
func (f *folder) entry(parent *node, dir int, name string, out *fuse.EntryOut) error {
	st, err := statAt(dir, name)
	if err != nil {
		return err
	}
	n, err := f.nodes.enter(parent, name, identify(&st))
	if err != nil {
		return err
	}
	f.fillEntry(out, n, &st)
	return nil
}

func (f *folder) fillEntry(out *fuse.EntryOut, n *node, st *unix.Statx_t) {
	out.NodeId = n.id
	out.Generation = 1
	out.SetEntryTimeout(fresh)
	out.SetAttrTimeout(fresh)
	f.fill(&out.Attr, n, st)
}

// Forget takes back lookups.
func (f *folder) Forget(id, count uint64) { f.nodes.forget(id, count) }

// fill translates attributes.
func (f *folder) fill(out *fuse.Attr, n *node, st *unix.Statx_t) {
	*out = fuse.Attr{
		Ino:       st.Ino,
		Size:      st.Size,
		Blocks:    st.Blocks,
		Atime:     uint64(st.Atime.Sec),
		Mtime:     uint64(st.Mtime.Sec),
		Ctime:     uint64(st.Ctime.Sec),
		Atimensec: st.Atime.Nsec,
		Mtimensec: st.Mtime.Nsec,
		Ctimensec: st.Ctime.Nsec,
		Mode:      uint32(st.Mode),
		Nlink:     st.Nlink,
		Owner:     fuse.Owner{Uid: nobody, Gid: nobody},
		Rdev:      uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor)),
		Blksize:   blockSize,
	}
	// The guest sees one file system, in which an inode number is one file.
	if n.key.dev != f.dev {
		out.Ino = foreign | n.id
	}
	if st.Uid == f.owners.HostUID {
		out.Uid = f.owners.GuestUID
	}
	if st.Gid == f.owners.HostGID {
		out.Gid = f.owners.GuestGID
	}
}

// GetAttr looks at a node, through an open handle if the guest names one.
func (f *folder) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return status(f.getAttr(in.NodeId, out))
}

func (f *folder) getAttr(id uint64, out *fuse.AttrOut) error {
	n, err := f.nodes.get(id)
	if err != nil {
		return err
	}
	st, err := f.nodes.stat(n)
	if err != nil {
		return err
	}
	out.SetTimeout(fresh)
	f.fill(&out.Attr, n, &st)
	return nil
}

// StatFs describes the file system of the folder.
func (f *folder) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(f.root, &st) }); err != nil {
		return status(err)
	}
	*out = fuse.StatfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: 255,
	}
	return fuse.OK
}
