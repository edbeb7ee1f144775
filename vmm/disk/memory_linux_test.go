package disk

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"golang.org/x/sys/unix"
)

var errKilled = errors.New("killed")

// host is what the files of a test are on. It can be killed after a number of blocks, and lose what was not synced.
type host struct {
	mu     sync.Mutex
	budget int // blocks, holes and syncs until it is killed; negative: never
	used   int
	dead   bool
}

// spend takes n steps, as many as there are.
func (h *host) spend(n int) int {
	if h.dead {
		return 0
	}
	if h.budget >= 0 && n > h.budget-h.used {
		h.dead = true
		n = h.budget - h.used
	}
	h.used += n
	return n
}

// memFile is a sparse file: blocks in the host's cache, and those that are on its disk.
type memFile struct {
	host   *host
	size   int64
	cached map[int64][]byte // nil is a hole
	stable map[int64][]byte
	locked string
}

func (h *host) newFile(size int64) *memFile {
	return &memFile{host: h, size: size, cached: map[int64][]byte{}, stable: map[int64][]byte{}}
}

func (m *memFile) block(b int64) []byte {
	if p := m.cached[b]; p != nil {
		return p
	}
	return make([]byte, BlockSize)
}

func (m *memFile) read(v [][]byte, off int64, atOnce bool) (int, error) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	n := 0
	for _, p := range v {
		for len(p) > 0 && off < m.size {
			c := copy(p[:min(int64(len(p)), m.size-off)], m.block(off / BlockSize)[off%BlockSize:])
			p, n, off = p[c:], n+c, off+int64(c)
		}
	}
	if n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// write puts block after block into the cache, as the kernel does, and may be killed between two.
func (m *memFile) write(v [][]byte, off int64, atOnce bool) (int, error) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	var all []byte
	for _, p := range v {
		all = append(all, p...)
	}
	n := 0
	for n < len(all) {
		at := off + int64(n)
		part := min(int64(len(all)-n), BlockSize-at%BlockSize)
		if m.host.spend(1) == 0 {
			return n, errKilled
		}
		p := append([]byte(nil), m.block(at/BlockSize)...) // the old one may be stable
		copy(p[at%BlockSize:], all[n:n+int(part)])
		m.cached[at/BlockSize] = p
		n += int(part)
	}
	return n, nil
}

func (m *memFile) sync() error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.host.spend(1) == 0 {
		return errKilled
	}
	clear(m.stable)
	for b, p := range m.cached {
		m.stable[b] = p
	}
	return nil
}

func (m *memFile) allocate(mode uint32, off, n int64) error {
	if mode == unix.FALLOC_FL_ZERO_RANGE {
		return unix.EOPNOTSUPP
	}
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.host.spend(1) == 0 {
		return errKilled
	}
	for n > 0 {
		part := min(n, BlockSize-off%BlockSize)
		if part == BlockSize || off+part >= m.size {
			delete(m.cached, off/BlockSize)
		} else if p := m.cached[off/BlockSize]; p != nil {
			p = append([]byte(nil), p...)
			clear(p[off%BlockSize:][:part])
			m.cached[off/BlockSize] = p
		}
		off, n = off+part, n-part
	}
	return nil
}

func (m *memFile) data(off, end int64) (int64, int64, error) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	for off < end && m.cached[off/BlockSize] == nil {
		off = (off/BlockSize + 1) * BlockSize
	}
	if off >= end {
		return end, end, nil
	}
	to := off
	for to < end && m.cached[to/BlockSize] != nil {
		to = (to/BlockSize + 1) * BlockSize
	}
	return off, min(to, end), nil
}

func (m *memFile) demote() error { m.locked = "read"; return nil }
func (m *memFile) close() error  { return nil }

// after is the file as it is found after the process was killed, or after the host was: then of each block any state since it was stable may
// be there, for instance the last or the stable one.
func (m *memFile) after(h *host, powerLost bool, r *rand.Rand) *memFile {
	f := h.newFile(m.size)
	blocks := map[int64]bool{}
	for b := range m.cached {
		blocks[b] = true
	}
	for b := range m.stable {
		blocks[b] = true
	}
	for b := range blocks {
		p := m.cached[b]
		if powerLost && r.IntN(2) == 0 {
			p = m.stable[b]
		}
		if p != nil {
			f.cached[b], f.stable[b] = p, p
		}
	}
	return f
}
