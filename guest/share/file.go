package share

import (
	"math"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxOffset is the greatest offset into a file (loff_t).
const maxOffset = math.MaxInt64

// maxCopy bounds how long one copy_file_range holds a worker; the guest asks on for the rest.
const maxCopy = 128 << 20

// stamp is how a file's data looked at some time. It is worth something only once the clock has moved on: two changes within one tick leave
// the same times.
type stamp struct {
	size         uint64
	mtime, ctime unix.StatxTimestamp
}

// settled is how long after a change times are taken to tell it from the next one; a tick is 10 ms at most (CONFIG_HZ=100).
const settled = 50 * time.Millisecond

// Open opens a regular file. FIFOs, sockets and devices are the guest's own affair; the host never opens one.
func (f *folder) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	flags, err := f.openFlags(in.Flags)
	if err != nil {
		return status(err)
	}
	n, err := f.nodes.get(in.NodeId)
	if err != nil {
		return status(err)
	}
	return status(f.open(n, flags, out))
}

// openFlags keeps of the guest's flags what concerns the host. O_APPEND comes with each write, O_SYNC as fsync, and O_DIRECT
// is between the guest and its cache.
func (f *folder) openFlags(flags uint32) (int, error) {
	access := int(flags) & unix.O_ACCMODE
	if access == unix.O_ACCMODE {
		return 0, unix.EINVAL
	}
	truncate := int(flags) & unix.O_TRUNC
	if f.readOnly && (access != unix.O_RDONLY || truncate != 0) {
		return 0, unix.EROFS
	}
	return access | truncate, nil
}

func (f *folder) open(n *node, flags int, out *fuse.OpenOut) error {
	switch n.key.kind {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return unix.EISDIR
	case unix.S_IFLNK:
		return unix.ELOOP
	default:
		return unix.ENXIO
	}
	if f.handles.full() {
		return unix.ENFILE
	}
	ref, err := f.nodes.pin(n)
	if err != nil {
		return err
	}
	fd, err := f.reopen(ref, flags)
	if err != nil {
		f.nodes.release(n)
		return err
	}
	if out.Fh, err = f.handle(n, fd, flags, nil); err != nil {
		return err
	}
	if f.unchanged(n, fd) {
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	return nil
}

// handle makes a handle of fd and the hold of n, or gives both up.
func (f *folder) handle(n *node, fd, flags int, dir *dirStream) (uint64, error) {
	id, err := f.handles.add(n, fd, flags&unix.O_ACCMODE, dir)
	if err != nil {
		_ = unix.Close(fd)
		f.nodes.release(n)
	}
	return id, err
}

// unchanged reports whether the data of n is what it was when n was last opened, so that what the guest has cached is good.
func (f *folder) unchanged(n *node, fd int) bool {
	st, err := statAt(fd, "")
	if err != nil {
		return false
	}
	now := stamp{size: st.Size, mtime: st.Mtime, ctime: st.Ctime}
	if time.Since(time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))) < settled {
		now = stamp{}
	}
	f.nodes.mu.Lock()
	defer f.nodes.mu.Unlock()
	same := now != stamp{} && n.data == now
	n.data = now
	return same
}

// Create makes and opens a file. One that is there already is opened, unless O_EXCL: the guest may not have seen it yet.
func (f *folder) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	flags, err := f.openFlags(in.Flags)
	if err != nil {
		return status(err)
	}
	parent, dir, err := f.parent(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(parent)
	if f.handles.full() {
		return status(unix.ENFILE)
	}
	var fd int
	err = retry(func() (err error) {
		how := flags | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY
		fd, err = unix.Openat(dir, name, how, safeMode(in.Mode, false))
		return err
	})
	switch {
	case err == unix.EEXIST && in.Flags&unix.O_EXCL == 0:
		return status(f.openExisting(parent, dir, name, flags, out))
	case err != nil:
		return status(err)
	}
	return status(f.created(parent, name, fd, flags, out))
}

// openExisting opens what somebody else has made meanwhile. If it is no regular file the guest looks again and takes its own way.
func (f *folder) openExisting(parent *node, dir int, name string, flags int, out *fuse.CreateOut) error {
	if err := f.entry(parent, dir, name, &out.EntryOut); err != nil {
		return stale(err)
	}
	n, err := f.nodes.get(out.NodeId)
	if err == nil && n.key.kind != unix.S_IFREG {
		err = unix.ESTALE
	}
	if err == nil {
		err = f.open(n, flags, &out.OpenOut)
	}
	if err != nil {
		f.nodes.forget(out.NodeId, 1) // the guest never hears of it
	}
	return err
}

// created gives a new file its node and handle; fd is taken over.
func (f *folder) created(parent *node, name string, fd, flags int, out *fuse.CreateOut) error {
	st, err := statAt(fd, "")
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	n, err := f.nodes.enter(parent, name, identify(&st))
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	ref, err := f.reopen(fd, unix.O_PATH)
	if err != nil {
		_ = unix.Close(fd)
		f.nodes.forget(n.id, 1)
		return err
	}
	f.nodes.mu.Lock()
	f.nodes.hold(n)
	f.nodes.mu.Unlock()
	f.nodes.adopt(n, ref)
	if out.Fh, err = f.handle(n, fd, flags, nil); err != nil {
		f.nodes.forget(n.id, 1)
		return err
	}
	f.fillEntry(&out.EntryOut, n, &st)
	return nil
}

// file is an open regular file that the guest names. Put it back after use.
func (f *folder) file(id uint64) (*handle, error) {
	h, err := f.handles.get(id)
	if err == nil && h.dir != nil {
		f.handles.put(h)
		return nil, unix.EBADF
	}
	return h, err
}

// Read reads into buf, which is as long as the guest asked for.
func (f *folder) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h, err := f.file(in.Fh)
	if err != nil {
		return nil, status(err)
	}
	defer f.handles.put(h)
	if in.Offset > maxOffset {
		return nil, fuse.EINVAL
	}
	n := 0
	for n < len(buf) && in.Offset <= maxOffset-uint64(n) {
		m := 0
		err := retry(func() (err error) {
			m, err = unix.Pread(h.fd, buf[n:], int64(in.Offset)+int64(n))
			return err
		})
		if err != nil && n == 0 {
			return nil, status(err)
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write writes. What programs append goes to the end that the file has on the host, where somebody may have appended too; what comes from
// a shared mapping goes where it belongs in any case.
func (f *folder) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if f.readOnly {
		return 0, fuse.EROFS
	}
	h, err := f.file(in.Fh)
	if err != nil {
		return 0, status(err)
	}
	defer f.handles.put(h)
	if in.Offset > maxOffset-uint64(len(data)) {
		return 0, status(unix.EFBIG)
	}
	mode := 0
	if in.Flags&unix.O_APPEND != 0 && in.WriteFlags&fuse.WRITE_CACHE == 0 {
		mode = unix.RWF_APPEND
	}
	n := 0
	for n < len(data) {
		m := 0
		err := retry(func() (err error) {
			m, err = unix.Pwritev2(h.fd, [][]byte{data[n:]}, int64(in.Offset)+int64(n), mode)
			return err
		})
		if err != nil && n == 0 {
			return 0, status(err)
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return uint32(n), fuse.OK
}

// Writev is never called with split data; ENOSYS sends it to Write.
func (f *folder) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Lseek finds data and holes; the guest does all other seeking itself.
func (f *folder) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	h, err := f.file(in.Fh)
	if err != nil {
		return status(err)
	}
	defer f.handles.put(h)
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE || in.Offset > maxOffset {
		return fuse.EINVAL
	}
	at, err := unix.Seek(h.fd, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(at)
	return status(err)
}

// CopyFileRange copies within the host.
func (f *folder) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	if f.readOnly {
		return 0, fuse.EROFS
	}
	from, err := f.file(in.FhIn)
	if err != nil {
		return 0, status(err)
	}
	defer f.handles.put(from)
	to, err := f.file(in.FhOut)
	if err != nil {
		return 0, status(err)
	}
	defer f.handles.put(to)
	if in.Flags != 0 || in.OffIn > maxOffset || in.OffOut > maxOffset {
		return 0, fuse.EINVAL
	}
	offIn, offOut := int64(in.OffIn), int64(in.OffOut)
	n := 0
	err = retry(func() (err error) {
		n, err = unix.CopyFileRange(from.fd, &offIn, to.fd, &offOut, int(min(in.Len, maxCopy)), 0)
		return err
	})
	if err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}

// Fallocate reserves, punches and zeroes.
func (f *folder) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if f.readOnly {
		return fuse.EROFS
	}
	h, err := f.file(in.Fh)
	if err != nil {
		return status(err)
	}
	defer f.handles.put(h)
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if in.Mode&^known != 0 {
		return status(unix.EOPNOTSUPP)
	}
	if in.Offset > maxOffset || in.Length > maxOffset {
		return status(unix.EFBIG)
	}
	return status(retry(func() error {
		return unix.Fallocate(h.fd, in.Mode, int64(in.Offset), int64(in.Length))
	}))
}

// Fsync waits until the host's disk has the file.
func (f *folder) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h, err := f.file(in.Fh)
	if err != nil {
		return status(err)
	}
	defer f.handles.put(h)
	return status(syncHandle(h, in.FsyncFlags))
}

// syncHandle is fsync, or fdatasync if bit 0 is set (FUSE_FSYNC_FDATASYNC).
func syncHandle(h *handle, flags uint32) error {
	if flags&1 != 0 {
		return retry(func() error { return unix.Fdatasync(h.fd) })
	}
	return retry(func() error { return unix.Fsync(h.fd) })
}

// Release closes a file. The kernel does not wait for it, nor is there anything to wait for.
func (f *folder) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { f.handles.remove(in.Fh) }
