package share

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"capsid/guest/share/pump"
)

// Sizes of linux/fuse.h. maxFixed bounds the fixed part of any reply: the header (16) and the longest struct (fuse_entry_out and
// fuse_open_out, 144).
const (
	headerIn  = 40
	headerOut = 16
	maxFixed  = 256
	maxName   = 255
	// minMinor is the protocol's minor version of Linux 5.4; the machine's kernel is newer.
	minMinor = 31
)

// Opcodes of linux/fuse.h that are told apart here.
const (
	opForget      = 2
	opInit        = 26
	opNotifyReply = 41
	opDestroy     = 38
	opBatchForget = 42
)

// tail is what follows the fixed part of a message.
type tail uint8

const (
	nothing  tail = iota
	oneName       // a file name and a zero
	twoNames      // two file names
	linkName      // a file name and a symbolic link's target
	attrName      // an attribute's name
	attrData      // an attribute's name and its value, whose size is the first field
	fileData      // data, whose size is the field at offset 16
	forgets       // pairs of 64 bits, whose number is the first field
	newer         // up to 48 bytes more, which newer kernels send
)

// shape is what a message with some opcode looks like.
type shape struct {
	fixed int // bytes of struct after the header
	tail  tail
	reply int // offset, in the struct, of the size that the guest wants back; 0 for none
}

// shapes are the operations that are served. Of some structs the kernel sends a shorter, older form; those are what it sends when the newer
// one was not agreed upon.
var shapes = map[uint32]shape{
	1:             {0, oneName, 0},   // LOOKUP
	opForget:      {8, nothing, 0},   // FORGET
	3:             {16, nothing, 0},  // GETATTR
	4:             {88, nothing, 0},  // SETATTR
	5:             {0, nothing, 0},   // READLINK
	6:             {0, linkName, 0},  // SYMLINK
	8:             {16, oneName, 0},  // MKNOD
	9:             {8, oneName, 0},   // MKDIR
	10:            {0, oneName, 0},   // UNLINK
	11:            {0, oneName, 0},   // RMDIR
	12:            {8, twoNames, 0},  // RENAME
	13:            {8, oneName, 0},   // LINK
	14:            {8, nothing, 0},   // OPEN
	15:            {40, nothing, 16}, // READ
	16:            {40, fileData, 0}, // WRITE
	17:            {0, nothing, 0},   // STATFS
	18:            {24, nothing, 0},  // RELEASE
	20:            {16, nothing, 0},  // FSYNC
	21:            {8, attrData, 0},  // SETXATTR
	22:            {8, attrName, 0},  // GETXATTR
	23:            {8, nothing, 0},   // LISTXATTR
	24:            {0, attrName, 0},  // REMOVEXATTR
	opInit:        {16, newer, 0},    // INIT
	27:            {8, nothing, 0},   // OPENDIR
	28:            {40, nothing, 16}, // READDIR
	29:            {24, nothing, 0},  // RELEASEDIR
	30:            {16, nothing, 0},  // FSYNCDIR
	35:            {16, oneName, 0},  // CREATE
	opDestroy:     {0, nothing, 0},
	opBatchForget: {8, forgets, 0},   // BATCH_FORGET
	43:            {32, nothing, 0},  // FALLOCATE
	44:            {40, nothing, 16}, // READDIRPLUS
	45:            {16, twoNames, 0}, // RENAME2
	46:            {24, nothing, 0},  // LSEEK
	47:            {56, nothing, 0},  // COPY_FILE_RANGE
	pump.Resume:   {8, nothing, 0},
	pump.Barrier:  {0, nothing, 0},
}

// Not served, with ENOSYS, after which the kernel does without: FLUSH (nothing waits here), GETLK, SETLK, SETLKW (never agreed upon),
// ACCESS (default_permissions), INTERRUPT (no operation waits for anything but the disk), BMAP, POLL, SETUPMAPPING, REMOVEMAPPING, SYNCFS, TMPFILE,
// STATX, COPY_FILE_RANGE_64. The library answers by itself for one name in the root, and a node with the greatest number, that stand for no
// file: pump.Settle needs a file to learn from that there is no POLL. IOCTL alone wants another word for it.
const opIoctl = 39

// message is one whole request, its header read.
type message struct {
	bytes  []byte
	opcode uint32
	unique uint64
}

func parse(b []byte) message {
	return message{bytes: b, opcode: binary.NativeEndian.Uint32(b[4:]), unique: binary.NativeEndian.Uint64(b[8:])}
}

// silent reports whether the kernel waits for no answer.
func (m message) silent() bool {
	return m.opcode == opForget || m.opcode == opBatchForget || m.opcode == opNotifyReply
}

// check looks at the shape of a message and returns how many bytes the reply may need. What passes can be read without looking at its length again:
// names end where they should and are names, sizes are those of what follows.
func (m message) check() (reply int, errno unix.Errno) {
	s, served := shapes[m.opcode]
	switch {
	case m.opcode == opIoctl:
		return 0, unix.ENOTTY
	case !served:
		return 0, unix.ENOSYS
	case len(m.bytes) < headerIn+s.fixed:
		return 0, unix.EINVAL
	case binary.NativeEndian.Uint16(m.bytes[36:]) != 0: // total_extlen: no extension was agreed upon
		return 0, unix.EINVAL
	}
	fixed, rest := m.bytes[headerIn:headerIn+s.fixed], m.bytes[headerIn+s.fixed:]
	if errno := checkTail(s.tail, fixed, rest); errno != 0 {
		return 0, errno
	}
	want := 0
	switch {
	case s.reply != 0:
		want = int(binary.NativeEndian.Uint32(fixed[s.reply:]))
	case m.opcode == 22 || m.opcode == 23:
		want = int(binary.NativeEndian.Uint32(fixed))
		if want > maxAttrList {
			return 0, unix.EINVAL
		}
	case m.opcode == 5:
		want = unix.PathMax
	case m.opcode == opInit:
		major, minor := binary.NativeEndian.Uint32(fixed), binary.NativeEndian.Uint32(fixed[4:])
		if major != 7 || minor < minMinor {
			return 0, unix.EPROTO
		}
	case m.opcode == pump.Resume:
		if binary.NativeEndian.Uint32(fixed) != pump.ResumeVersion {
			return 0, unix.EPROTO
		}
	}
	if want > pump.MaxData {
		return 0, unix.EINVAL
	}
	return maxFixed + want, 0
}

func checkTail(t tail, fixed, rest []byte) unix.Errno {
	switch t {
	case nothing:
		return ok(len(rest) == 0)
	case oneName:
		name, rest, errno := cutName(rest)
		if errno != 0 {
			return errno
		}
		return firstErrno(ok(len(rest) == 0), checkName(name))
	case twoNames:
		one, rest, errno1 := cutName(rest)
		two, rest, errno2 := cutName(rest)
		return firstErrno(errno1, errno2, ok(len(rest) == 0), checkName(one), checkName(two))
	case linkName:
		name, rest, errno1 := cutName(rest)
		target, rest, errno2 := cutName(rest)
		return firstErrno(errno1, errno2, ok(len(rest) == 0 && len(target) > 0 && len(target) < unix.PathMax), checkName(name))
	case attrName:
		name, rest, errno := cutName(rest)
		return firstErrno(errno, ok(len(rest) == 0 && len(name) > 0 && len(name) <= maxName))
	case attrData:
		name, rest, errno := cutName(rest)
		return firstErrno(errno, ok(len(name) > 0 && len(name) <= maxName && uint64(len(rest)) == uint64(binary.NativeEndian.Uint32(fixed))))
	case fileData:
		return ok(uint64(len(rest)) == uint64(binary.NativeEndian.Uint32(fixed[16:])))
	case forgets:
		return ok(uint64(len(rest)) == 16*uint64(binary.NativeEndian.Uint32(fixed)))
	case newer:
		return ok(len(rest) <= 48)
	}
	return unix.EINVAL
}

func ok(good bool) unix.Errno {
	if good {
		return 0
	}
	return unix.EINVAL
}

func firstErrno(all ...unix.Errno) unix.Errno {
	for _, e := range all {
		if e != 0 {
			return e
		}
	}
	return 0
}

// cutName takes the bytes up to the first zero.
func cutName(b []byte) (name, rest []byte, errno unix.Errno) {
	name, rest, found := bytes.Cut(b, []byte{0})
	return name, rest, ok(found)
}

// checkName tells a name from a path. The kernel sends no others; "." and ".." would be a way about in the folder, and out of it.
func checkName(name []byte) unix.Errno {
	switch {
	case len(name) > maxName:
		return unix.ENAMETOOLONG
	case len(name) == 0, bytes.IndexByte(name, '/') >= 0, string(name) == ".", string(name) == "..":
		return unix.EINVAL
	}
	return 0
}
