package share

import (
	"sync"

	"golang.org/x/sys/unix"
)

// handle is an open file or folder. It holds its node, so that an open file that was removed can still be looked at.
type handle struct {
	node   *node
	fd     int        // -1: the file was lost while nobody served
	access int        // O_RDONLY, O_WRONLY or O_RDWR
	dir    *dirStream // of a folder
	refs   int        // the table's and one for each request that uses it; at 0 it is closed
}

// handles is the table of all handles of one file system. Numbers are never used twice.
type handles struct {
	mu    sync.Mutex
	byID  map[uint64]*handle
	last  uint64
	limit int
	nodes *nodes
}

// add takes over fd and one hold of n.
func (t *handles) add(n *node, fd, access int, dir *dirStream) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byID) >= t.limit {
		return 0, unix.ENFILE
	}
	t.last++
	t.byID[t.last] = &handle{node: n, fd: fd, access: access, dir: dir, refs: 1}
	return t.last, nil
}

// full reports whether add would fail, before anything is opened for it.
func (t *handles) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID) >= t.limit
}

// get finds a handle by the number that the guest sent; put it back after use.
func (t *handles) get(id uint64) (*handle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byID[id]
	switch {
	case h == nil:
		return nil, unix.EBADF
	case h.fd < 0:
		return nil, unix.ESTALE
	}
	h.refs++
	return h, nil
}

func (t *handles) put(h *handle) {
	t.mu.Lock()
	h.refs--
	last := h.refs == 0
	t.mu.Unlock()
	if last {
		if h.fd >= 0 {
			_ = unix.Close(h.fd)
		}
		t.nodes.release(h.node)
	}
}

// remove ends a handle; requests that use it just now finish first.
func (t *handles) remove(id uint64) {
	t.mu.Lock()
	h := t.byID[id]
	delete(t.byID, id)
	t.mu.Unlock()
	if h != nil {
		t.put(h)
	}
}

func (t *handles) closeAll() {
	t.mu.Lock()
	all := make([]uint64, 0, len(t.byID))
	for id := range t.byID {
		all = append(all, id)
	}
	t.mu.Unlock()
	for _, id := range all {
		t.remove(id)
	}
}
