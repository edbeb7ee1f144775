package share

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// dirBuffer is how much of a folder is read from the host at a time.
const dirBuffer = 16 << 10

// dirStream is the state of an open folder. Offsets are the host file system's own (d_off), so they stay good while names
// come and go.
type dirStream struct {
	mu   sync.Mutex
	buf  []byte
	rest []byte // of buf: entries not yet delivered
	pos  uint64 // the offset at which rest begins
}

// OpenDir opens a folder for reading.
func (f *folder) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if f.handles.full() {
		return status(unix.ENFILE)
	}
	n, ref, err := f.pinned(in.NodeId)
	if err != nil {
		return status(err)
	}
	if n.key.kind != unix.S_IFDIR {
		f.nodes.release(n)
		return fuse.ENOTDIR
	}
	fd, err := f.reopen(ref, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		f.nodes.release(n)
		return status(err)
	}
	out.Fh, err = f.handle(n, fd, unix.O_RDONLY, &dirStream{})
	return status(err)
}

// ReadDir lists names.
func (f *folder) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(_ *handle, e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus lists names with what Lookup says of them. A name without, because it has gone meanwhile, the kernel looks up itself.
func (f *folder) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(h *handle, e fuse.DirEntry) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if e.Name != "." && e.Name != ".." && f.entry(h.node, h.fd, e.Name, entry) == nil {
			out.FixMode(entry.Mode)
		}
		return true
	})
}

// list hands entries from the guest's offset on to add, until it takes no more.
func (f *folder) list(in *fuse.ReadIn, add func(*handle, fuse.DirEntry) bool) fuse.Status {
	h, err := f.handles.get(in.Fh)
	if err != nil {
		return status(err)
	}
	defer f.handles.put(h)
	d := h.dir
	switch {
	case d == nil:
		return fuse.EBADF
	case in.Offset > maxOffset:
		return fuse.EINVAL
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.Offset != d.pos || in.Offset == 0 {
		if _, err := unix.Seek(h.fd, int64(in.Offset), unix.SEEK_SET); err != nil {
			return status(err)
		}
		d.rest, d.pos = nil, in.Offset
	}
	for added := false; ; added = true {
		if len(d.rest) == 0 {
			more, err := d.fill(h.fd)
			if err != nil && !added {
				return status(err)
			}
			if err != nil || !more {
				return fuse.OK
			}
		}
		e, size, ok := parseEntry(d.rest)
		if !ok {
			return fuse.EIO
		}
		if !add(h, e) {
			return fuse.OK
		}
		d.rest, d.pos = d.rest[size:], e.Off
	}
}

// fill reads on; false at the end, where the buffer is given up.
func (d *dirStream) fill(fd int) (bool, error) {
	if d.buf == nil {
		d.buf = make([]byte, dirBuffer)
	}
	n := 0
	err := retry(func() (err error) {
		n, err = unix.Getdents(fd, d.buf)
		return err
	})
	if err != nil || n <= 0 {
		d.buf, d.rest = nil, nil
		return false, err
	}
	d.rest = d.buf[:n]
	return true, nil
}

// parseEntry reads one struct linux_dirent64: ino and offset of 64 bits, record length of 16, type of 8, name.
func parseEntry(b []byte) (fuse.DirEntry, int, bool) {
	const head = 19
	if len(b) < head {
		return fuse.DirEntry{}, 0, false
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < head || size > len(b) {
		return fuse.DirEntry{}, 0, false
	}
	name, _, _ := bytes.Cut(b[head:size], []byte{0})
	return fuse.DirEntry{
		Ino:  binary.NativeEndian.Uint64(b),
		Off:  binary.NativeEndian.Uint64(b[8:]),
		Mode: uint32(b[18]) << 12, // DT_x is S_IFx >> 12
		Name: string(name),
	}, size, true
}

// ReleaseDir closes a folder.
func (f *folder) ReleaseDir(in *fuse.ReleaseIn) { f.handles.remove(in.Fh) }

// FsyncDir waits until the host's disk has the names.
func (f *folder) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h, err := f.handles.get(in.Fh)
	if err != nil {
		return status(err)
	}
	defer f.handles.put(h)
	return status(syncHandle(h, in.FsyncFlags))
}
