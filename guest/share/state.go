package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"golang.org/x/sys/unix"
)

// The state of a share, as Process.Save returns it: stateMagic, then numbers as unsigned varints of encoding/binary (those that may be negative as signed
// ones) and strings with their length before them, then a CRC-32C of all that, little-endian.
//
//	version, whether the guest has mounted the share (0 or 1; all that follows is absent if not)
//	root: device, inode, birth (signed, ns since 1970)
//	highest node number, highest handle number, the INIT request
//	nodes: count, then each: number (as the difference to the one before), flags, number of the parent (0: the file is gone), name, kind (st_mode >> 12), inode, birth
//	       (signed), lookups, and what the flags say
//	handles: count, then each: number (difference), node, flags
//	replies: count, then each: number of the request, reply
//
// Who changes what the guest and a server agree upon in INIT must change the version too.
const (
	stateMagic   = "capsid share\n"
	stateVersion = 1
	// maxState bounds a state: two million nodes have about 100 bytes each.
	maxState = 256 << 20
	// maxPath bounds a path below the root.
	maxPath = 64 << 10
)

const (
	nodeForeign = 1 << iota // a device follows, not the root's
	nodeStamp               // size and times of the data follow
	nodePath                // a path below the root follows, where the file is really
	nodeChanged             // ctime follows (signed, ns): the file system has no birth times
	nodeFlags   = 1<<iota - 1
)

const (
	handleAccess = unix.O_ACCMODE
	handleDir    = 4
)

// state is a share's file system written down.
type state struct {
	root       identity
	lastNode   uint64
	lastHandle uint64
	began      []byte
	nodes      []savedNode // without the root, by number
	handles    []savedHandle
	replies    []savedReply
}

type savedNode struct {
	id, parent uint64 // parent 0: the file is gone
	name       string
	key        identity
	lookups    uint64
	data       stamp
	path       string // where the file is, if not where its parents say
	changed    int64  // ctime, of a file without birth
}

type savedHandle struct {
	id, node uint64
	access   int // O_RDONLY, O_WRONLY, O_RDWR
	dir      bool
}

type savedReply struct {
	unique uint64
	reply  []byte
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// encode writes a state down; nil stands for a share that nobody has mounted.
func (s *state) encode() ([]byte, error) {
	b := []byte(stateMagic)
	u := func(v uint64) { b = binary.AppendUvarint(b, v) }
	i := func(v int64) { b = binary.AppendVarint(b, v) }
	str := func(v string) { u(uint64(len(v))); b = append(b, v...) }
	u(stateVersion)
	if s == nil {
		u(0)
		return seal(b), nil
	}
	u(1)
	u(s.root.dev)
	u(s.root.ino)
	i(s.root.born)
	u(s.lastNode)
	u(s.lastHandle)
	str(string(s.began))
	u(uint64(len(s.nodes)))
	last := uint64(0)
	for _, n := range s.nodes {
		flags := uint64(0)
		for flag, set := range map[uint64]bool{nodeForeign: n.key.dev != s.root.dev, nodeStamp: n.data != stamp{}, nodePath: n.path != "", nodeChanged: n.key.born == 0} {
			if set {
				flags |= flag
			}
		}
		u(n.id - last)
		last = n.id
		u(flags)
		u(n.parent)
		str(n.name)
		u(uint64(n.key.kind >> 12))
		u(n.key.ino)
		i(n.key.born)
		u(n.lookups)
		if flags&nodeForeign != 0 {
			u(n.key.dev)
		}
		if flags&nodeStamp != 0 {
			u(n.data.size)
			i(n.data.mtime.Sec)
			u(uint64(n.data.mtime.Nsec))
			i(n.data.ctime.Sec)
			u(uint64(n.data.ctime.Nsec))
		}
		if flags&nodePath != 0 {
			str(n.path)
		}
		if flags&nodeChanged != 0 {
			i(n.changed)
		}
		if len(b) > maxState {
			return nil, errTooLarge
		}
	}
	u(uint64(len(s.handles)))
	last = 0
	for _, h := range s.handles {
		u(h.id - last)
		last = h.id
		u(h.node)
		flags := uint64(h.access)
		if h.dir {
			flags |= handleDir
		}
		u(flags)
	}
	u(uint64(len(s.replies)))
	for _, r := range s.replies {
		u(r.unique)
		str(string(r.reply))
	}
	if len(b) > maxState-4 {
		return nil, errTooLarge
	}
	return seal(b), nil
}

var errTooLarge = fmt.Errorf("share: the state has more than %d MiB", maxState>>20)

func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// sealed reports whether a state is whole; it says nothing of what it is worth.
func sealed(b []byte) bool {
	end := len(b) - 4
	return end >= len(stateMagic) && string(b[:len(stateMagic)]) == stateMagic && crc32.Checksum(b[:end], castagnoli()) == binary.LittleEndian.Uint32(b[end:])
}

var errState = errors.New("share: the saved state is damaged")

// decode reads a state; nil for one that says that nobody has mounted the share. What it returns is of good shape (see check), whoever wrote it.
func decode(b []byte) (*state, error) {
	if len(b) > maxState {
		return nil, errTooLarge
	}
	if len(b) < len(stateMagic)+4 || string(b[:len(stateMagic)]) != stateMagic {
		return nil, errState
	}
	r := reader{rest: b[len(stateMagic) : len(b)-4]}
	if version := r.u(math.MaxUint64); !r.bad && version != stateVersion {
		return nil, fmt.Errorf("share: the saved state is of version %d, and this program knows version %d", version, stateVersion)
	}
	if !sealed(b) {
		return nil, errState
	}
	if r.u(1) == 0 {
		if r.bad || len(r.rest) > 0 {
			return nil, errState
		}
		return nil, nil
	}
	s := r.state()
	if r.bad || len(r.rest) > 0 {
		return nil, errState
	}
	return s, s.check()
}

// reader takes numbers and strings off rest. When something is wrong it is bad, and gives zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() { r.rest, r.bad = nil, true }

func (r *reader) u(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > most {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) i() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes(most uint64) []byte {
	n := r.u(min(most, uint64(len(r.rest))))
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	v := r.rest[:n]
	r.rest = r.rest[n:]
	return append([]byte(nil), v...)
}

// count reads how many entries follow, of least bytes each at least: no more than there is room for, and no more than most.
func (r *reader) count(least, most int) int { return int(r.u(uint64(min(len(r.rest)/least, most)))) }

// next reads a number that is greater than last.
func (r *reader) next(last uint64) uint64 {
	d := r.u(math.MaxUint64 - last)
	if d == 0 {
		r.fail()
	}
	return last + d
}

func (r *reader) time() unix.StatxTimestamp {
	return unix.StatxTimestamp{Sec: r.i(), Nsec: uint32(r.u(999_999_999))}
}

func (r *reader) state() *state {
	const any = math.MaxUint64
	s := &state{root: identity{dev: r.u(any), ino: r.u(any), born: r.i(), kind: unix.S_IFDIR}}
	s.lastNode, s.lastHandle = r.u(any), r.u(any)
	s.began = r.bytes(maxFixed)
	last := uint64(0)
	for range r.count(8, maxNodes) {
		n := savedNode{id: r.next(last)}
		last = n.id
		flags := r.u(nodeFlags)
		n.parent, n.name = r.u(any), string(r.bytes(maxName))
		n.key = identity{dev: s.root.dev, kind: uint16(r.u(15) << 12), ino: r.u(any), born: r.i()}
		n.lookups = r.u(any)
		if flags&nodeForeign != 0 {
			n.key.dev = r.u(any)
		}
		if flags&nodeStamp != 0 {
			n.data = stamp{size: r.u(any), mtime: r.time(), ctime: r.time()}
		}
		if flags&nodePath != 0 {
			n.path = string(r.bytes(maxPath))
		}
		if flags&nodeChanged != 0 {
			n.changed = r.i()
		}
		if r.bad || (flags&nodeChanged != 0) != (n.key.born == 0) {
			r.fail()
			return nil
		}
		s.nodes = append(s.nodes, n)
	}
	last = 0
	for range r.count(3, maxNodes) {
		h := savedHandle{id: r.next(last), node: r.u(any)}
		last = h.id
		flags := r.u(handleAccess | handleDir)
		h.access, h.dir = int(flags&handleAccess), flags&handleDir != 0
		s.handles = append(s.handles, h)
	}
	for range r.count(2, maxRecent) {
		s.replies = append(s.replies, savedReply{r.u(any), r.bytes(maxFixed)})
	}
	if r.bad {
		return nil
	}
	return s
}
