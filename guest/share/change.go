package share

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// safeMode takes out of a mode what would give somebody on the host another one's rights: a program in the machine must not leave
// a set-user-ID file behind. On folders set-group-ID says only who owns new files.
func safeMode(mode uint32, folder bool) uint32 {
	mode &= 0o7777 &^ unix.S_ISUID
	if !folder {
		mode &^= unix.S_ISGID
	}
	return mode
}

// SetAttr changes mode, size and times. Owners stay what they are (see the package's word on owners).
func (f *folder) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if f.readOnly {
		return fuse.EROFS
	}
	n, fd, err := f.pinned(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(n)
	if mode, ok := in.GetMode(); ok {
		mode = safeMode(mode, n.key.kind == unix.S_IFDIR)
		if err := retry(func() error { return unix.Fchmodat(f.proc, reference(fd), mode, 0) }); err != nil {
			return status(err)
		}
	}
	if size, ok := in.GetSize(); ok {
		if err := f.truncate(n, fd, in, size); err != nil {
			return status(err)
		}
	}
	if in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME|fuse.FATTR_ATIME_NOW|fuse.FATTR_MTIME_NOW) != 0 {
		times := []unix.Timespec{
			moment(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec),
			moment(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec),
		}
		if err := retry(func() error { return unix.UtimesNanoAt(f.proc, reference(fd), times, 0) }); err != nil {
			return status(err)
		}
	}
	return status(f.getAttr(in.NodeId, out))
}

// truncate changes the size, by the open handle if there is one: it may write where the mode by now forbids it.
func (f *folder) truncate(n *node, fd int, in *fuse.SetAttrIn, size uint64) error {
	if n.key.kind != unix.S_IFREG {
		return unix.EINVAL
	}
	if size > maxOffset {
		return unix.EFBIG
	}
	if id, ok := in.GetFh(); ok {
		h, err := f.handles.get(id)
		if err != nil {
			return err
		}
		defer f.handles.put(h)
		if h.node != n || h.dir != nil {
			return unix.EBADF
		}
		return retry(func() error { return unix.Ftruncate(h.fd, int64(size)) })
	}
	w, err := f.reopen(fd, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(w)
	return retry(func() error { return unix.Ftruncate(w, int64(size)) })
}

// moment is a time as utimensat wants it: given, now, or left alone.
func moment(valid, given, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case valid&given != 0:
		ts := unix.NsecToTimespec(int64(min(nsec, 999_999_999)))
		ts.Sec = int64(sec)
		return ts
	}
	return unix.Timespec{Nsec: unix.UTIME_OMIT}
}

// Mkdir makes a folder.
func (f *folder) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.made(in.NodeId, name, out, func(dir int) error {
		return unix.Mkdirat(dir, name, safeMode(in.Mode, true))
	})
}

// Mknod makes an empty file, a FIFO or a socket.
func (f *folder) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	kind := in.Mode & unix.S_IFMT
	switch kind {
	case 0:
		kind = unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return fuse.EPERM
	}
	return f.made(in.NodeId, name, out, func(dir int) error {
		return unix.Mknodat(dir, name, kind|safeMode(in.Mode, false), 0)
	})
}

// Symlink makes a symbolic link. Where it points to is the guest's affair.
func (f *folder) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.made(in.NodeId, name, out, func(dir int) error {
		return unix.Symlinkat(target, dir, name)
	})
}

// Link gives a file another name.
func (f *folder) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if f.readOnly {
		return fuse.EROFS
	}
	n, fd, err := f.pinned(in.Oldnodeid)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(n)
	if n.key.kind == unix.S_IFDIR {
		return fuse.EPERM
	}
	return f.made(in.NodeId, name, out, func(dir int) error {
		return unix.Linkat(f.proc, reference(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// made runs a call that makes name, and tells the guest what came of it.
func (f *folder) made(parentID uint64, name string, out *fuse.EntryOut, create func(dir int) error) fuse.Status {
	parent, dir, err := f.parent(parentID)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(parent)
	if err := retry(func() error { return create(dir) }); err != nil {
		return status(err)
	}
	return status(f.entry(parent, dir, name, out))
}

// Unlink removes a file's name.
func (f *folder) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove(in.NodeId, name, 0)
}

// Rmdir removes an empty folder.
func (f *folder) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove(in.NodeId, name, unix.AT_REMOVEDIR)
}

func (f *folder) remove(parentID uint64, name string, flags int) fuse.Status {
	parent, dir, err := f.parent(parentID)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(parent)
	return status(retry(func() error { return unix.Unlinkat(dir, name, flags) }))
}

// Rename moves a name, or swaps two.
func (f *folder) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return fuse.EINVAL
	}
	oldParent, oldDir, err := f.parent(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(oldParent)
	newParent, newDir, err := f.parent(in.Newdir)
	if err != nil {
		return status(err)
	}
	defer f.nodes.release(newParent)
	err = retry(func() error { return unix.Renameat2(oldDir, from, newDir, to, uint(in.Flags)) })
	if err != nil {
		return status(err)
	}
	f.settle(newParent, newDir, to)
	if in.Flags&unix.RENAME_EXCHANGE != 0 {
		f.settle(oldParent, oldDir, from)
	}
	return fuse.OK
}

// settle notes where a file that was moved is now. If it is gone again already there is nothing to note.
func (f *folder) settle(parent *node, dir int, name string) {
	if st, err := statAt(dir, name); err == nil {
		f.nodes.moved(parent, name, identify(&st))
	}
}

// Readlink reads a symbolic link for the guest to follow.
func (f *folder) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n, fd, err := f.pinned(in.NodeId)
	if err != nil {
		return nil, status(err)
	}
	defer f.nodes.release(n)
	if n.key.kind != unix.S_IFLNK {
		return nil, fuse.EINVAL
	}
	buf := make([]byte, unix.PathMax)
	size := 0
	err = retry(func() (err error) {
		size, err = unix.Readlinkat(fd, "", buf)
		return err
	})
	if err != nil {
		return nil, status(err)
	}
	return buf[:size], fuse.OK
}
