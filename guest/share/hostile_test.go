package share

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/guest/share/pump"
)

func generous() limits { return limits{nodes: 1000, descriptors: 100, handles: 100} }

func TestHostileMessages(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	must(t, os.Symlink("f", filepath.Join(dir, "l")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	_, c := serveHere(t, dir, false, generous())
	node := map[string]uint64{}
	for _, name := range []string{"f", "d", "l", "fifo"} {
		id, errno := c.lookup(rootID, name)
		if errno != 0 {
			t.Fatal(errno)
		}
		node[name] = id
	}
	fh, errno := c.open(node["f"], unix.O_RDWR)
	if errno != 0 {
		t.Fatal(errno)
	}
	body, errno := c.call(27, node["d"], u32(0), u32(0))
	if errno != 0 {
		t.Fatal(errno)
	}
	dh := binary.NativeEndian.Uint64(body)
	z := func(n int) []byte { return make([]byte, n) }
	write := func(fh, offset uint64, size uint32, data string) [][]byte {
		return [][]byte{u64(fh), u64(offset), u32(size), z(20), []byte(data)}
	}
	read := func(fh, offset uint64, size uint32) [][]byte {
		return [][]byte{u64(fh), u64(offset), u32(size), z(20)}
	}
	for i, c2 := range []struct {
		what   string
		opcode uint32
		node   uint64
		rest   [][]byte
		want   unix.Errno
	}{
		{"no name", 1, rootID, nil, unix.EINVAL},
		{"a name without an end", 1, rootID, [][]byte{[]byte("f")}, unix.EINVAL},
		{"an empty name", 1, rootID, [][]byte{z(1)}, unix.EINVAL},
		{"more after the name", 1, rootID, [][]byte{[]byte("f\x00x")}, unix.EINVAL},
		{"up", 1, rootID, [][]byte{[]byte("..\x00")}, unix.EINVAL},
		{"here", 1, rootID, [][]byte{[]byte(".\x00")}, unix.EINVAL},
		{"a path", 1, rootID, [][]byte{[]byte("d/../../x\x00")}, unix.EINVAL},
		{"an absolute path", 1, rootID, [][]byte{[]byte("/etc\x00")}, unix.EINVAL},
		{"a long name", 1, rootID, [][]byte{bytes.Repeat([]byte("n"), 256), z(1)}, unix.ENAMETOOLONG},
		{"a name in a file", 1, node["f"], [][]byte{[]byte("x\x00")}, unix.ENOTDIR},
		{"a name in a link", 1, node["l"], [][]byte{[]byte("x\x00")}, unix.ENOTDIR},
		{"an unknown node", 1, 99, [][]byte{[]byte("f\x00")}, unix.ESTALE},
		{"node 0", 3, 0, [][]byte{z(16)}, unix.ESTALE},
		{"a name in the library's node", 1, ^uint64(0), [][]byte{[]byte("x\x00")}, 0},
		{"the library's node, renamed", 45, rootID, [][]byte{u64(^uint64(0)), z(8), []byte("f\x00g\x00")}, unix.ESTALE},
		{"the library's node, linked", 13, rootID, [][]byte{u64(^uint64(0)), []byte("g\x00")}, unix.ESTALE},
		{"the library's node, made", 9, rootID, [][]byte{z(8), []byte(".go-fuse-epoll-hack\x00")}, unix.ERANGE},
		{"a short struct", 3, rootID, [][]byte{z(15)}, unix.EINVAL},
		{"a long struct", 3, rootID, [][]byte{z(17)}, unix.EINVAL},
		{"a new name with a path", 9, rootID, [][]byte{z(8), []byte("../x\x00")}, unix.EINVAL},
		{"rename out", 45, rootID, [][]byte{u64(rootID), z(8), []byte("f\x00../f\x00")}, unix.EINVAL},
		{"rename up", 45, rootID, [][]byte{u64(rootID), z(8), []byte("f\x00..\x00")}, unix.EINVAL},
		{"rename with one name", 45, rootID, [][]byte{u64(rootID), z(8), []byte("f\x00")}, unix.EINVAL},
		{"rename with a whiteout", 45, rootID, [][]byte{u64(rootID), u32(unix.RENAME_WHITEOUT), z(4), []byte("f\x00g\x00")}, unix.EINVAL},
		{"rename to an unknown folder", 12, rootID, [][]byte{u64(99), []byte("f\x00g\x00")}, unix.ESTALE},
		{"rename into a file", 12, rootID, [][]byte{u64(node["f"]), []byte("l\x00g\x00")}, unix.ENOTDIR},
		{"link of an unknown node", 13, rootID, [][]byte{u64(99), []byte("g\x00")}, unix.ESTALE},
		{"link of a folder", 13, rootID, [][]byte{u64(node["d"]), []byte("g\x00")}, unix.EPERM},
		{"a symbolic link to nothing", 6, rootID, [][]byte{[]byte("g\x00\x00")}, unix.EINVAL},
		{"a symbolic link too long", 6, rootID, [][]byte{[]byte("g\x00"), bytes.Repeat([]byte("x"), 4096), z(1)}, unix.EINVAL},
		{"a device", 8, rootID, [][]byte{u32(unix.S_IFBLK | 0o600), u32(0x801), z(8), []byte("g\x00")}, unix.EPERM},
		{"a folder as a node", 8, rootID, [][]byte{u32(unix.S_IFDIR | 0o700), z(12), []byte("g\x00")}, unix.EPERM},
		{"open a folder", 14, node["d"], [][]byte{z(8)}, unix.EISDIR},
		{"open a link", 14, node["l"], [][]byte{z(8)}, unix.ELOOP},
		{"open a fifo", 14, node["fifo"], [][]byte{z(8)}, unix.ENXIO},
		{"open in no mode", 14, node["f"], [][]byte{u32(3), z(4)}, unix.EINVAL},
		{"list a file", 27, node["f"], [][]byte{z(8)}, unix.ENOTDIR},
		{"read link of a file", 5, node["f"], nil, unix.EINVAL},
		{"read with an unknown handle", 15, node["f"], read(99, 0, 10), unix.EBADF},
		{"read from a folder's handle", 15, node["d"], read(dh, 0, 10), unix.EBADF},
		{"read too much", 15, node["f"], read(fh, 0, pump.MaxData+1), unix.EINVAL},
		{"read 4 GiB", 15, node["f"], read(fh, 0, ^uint32(0)), unix.EINVAL},
		{"read from nowhere", 15, node["f"], read(fh, ^uint64(0), 10), unix.EINVAL},
		{"write with an unknown handle", 16, node["f"], write(99, 0, 1, "x"), unix.EBADF},
		{"write to a folder's handle", 16, node["d"], write(dh, 0, 1, "x"), unix.EBADF},
		{"write more than there is", 16, node["f"], write(fh, 0, 100, "x"), unix.EINVAL},
		{"write less than there is", 16, node["f"], write(fh, 0, 1, "xyz"), unix.EINVAL},
		{"write nowhere", 16, node["f"], write(fh, 1<<63-1, 3, "xyz"), unix.EFBIG},
		{"list with a file's handle", 28, node["f"], read(fh, 0, 100), unix.EBADF},
		{"list from nowhere", 44, node["d"], read(dh, 1<<63, 100), unix.EINVAL},
		{"list too much", 44, node["d"], read(dh, 0, 1<<30), unix.EINVAL},
		{"seek to an end", 46, node["f"], [][]byte{u64(fh), u64(0), u32(unix.SEEK_END), z(4)}, unix.EINVAL},
		{"copy with flags", 47, node["f"], [][]byte{u64(fh), u64(0), u64(node["f"]), u64(fh), u64(0), u64(1), u64(1)}, unix.EINVAL},
		{"copy to an unknown handle", 47, node["f"], [][]byte{u64(fh), u64(0), u64(node["f"]), u64(99), u64(0), u64(1), u64(0)}, unix.EBADF},
		{"allocate in an odd mode", 43, node["f"], [][]byte{u64(fh), u64(0), u64(1), u32(0x40), z(4)}, unix.EOPNOTSUPP},
		{"sync an unknown handle", 20, node["f"], [][]byte{u64(99), z(8)}, unix.EBADF},
		{"truncate a folder", 4, node["d"], [][]byte{u32(8), z(84)}, unix.EINVAL},
		{"truncate a fifo", 4, node["fifo"], [][]byte{u32(8), z(84)}, unix.EINVAL},
		{"truncate by another's handle", 4, node["d"], [][]byte{u32(8 | 64), z(4), u64(fh), z(72)}, unix.EINVAL},
		{"a value longer than said", 21, node["f"], [][]byte{u32(1), z(4), []byte("user.a\x00xyz")}, unix.EINVAL},
		{"a value shorter than said", 21, node["f"], [][]byte{u32(100), z(4), []byte("user.a\x00xyz")}, unix.EINVAL},
		{"a capability", 21, node["f"], [][]byte{u32(1), z(4), []byte("security.capability\x00x")}, unix.EOPNOTSUPP},
		{"a list of 1 MiB", 23, node["f"], [][]byte{u32(1 << 20), z(4)}, unix.EINVAL},
		{"INIT again", opInit, 0, [][]byte{initBody()}, unix.EPROTO},
		{"ioctl", opIoctl, node["f"], [][]byte{z(32)}, unix.ENOTTY},
		{"a lock", 32, node["f"], [][]byte{z(48)}, unix.ENOSYS},
		{"tmpfile", 51, rootID, [][]byte{z(16), []byte("/\x00")}, unix.ENOSYS},
		{"no operation", 0, rootID, nil, unix.ENOSYS},
		{"an unknown operation", 4096, rootID, nil, unix.ENOSYS},
		{"the greatest operation", ^uint32(0), rootID, nil, unix.ENOSYS},
		{"a notification", 101, rootID, [][]byte{z(24)}, unix.ENOSYS},
	} {
		if _, errno := c.call(c2.opcode, c2.node, c2.rest...); errno != c2.want {
			t.Errorf("%d %s: %v, want %v", i, c2.what, errno, c2.want)
		}
	}
	if got, errno := c.read(node["f"], fh, 0, 100); errno != 0 || string(got) != "content" {
		t.Errorf("after all that: %q %v", got, errno)
	}
	// Messages that nobody waits for.
	c.forget(99, 1)
	c.forget(rootID, ^uint64(0))
	c.forget(node["f"], ^uint64(0))
	c.send(opBatchForget, 0, u32(1<<31), u32(0))
	c.send(opBatchForget, 0, u32(2), u32(0), u64(node["d"]), u64(1), u64(12345), u64(1))
	c.send(opNotifyReply, 0)
	c.send(opForget, rootID)
	if got, errno := c.read(node["f"], fh, 0, 100); errno != 0 || string(got) != "content" {
		t.Errorf("after they were forgotten: %q %v", got, errno)
	}
	if _, errno := c.lookup(node["d"], "x"); errno != unix.ENOENT {
		t.Errorf("a folder that is open was forgotten: %v", errno) // its handle holds it
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 4 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestBrokenFraming(t *testing.T) {
	for name, raw := range map[string][]byte{
		"length 0":        u32(0),
		"no header":       u32(headerIn - 1),
		"longer than may": u32(pump.MaxMessage + 1),
		"4 GiB":           u32(^uint32(0)),
	} {
		t.Run(name, func(t *testing.T) {
			_, c := serveHere(t, t.TempDir(), false, generous())
			_, err := c.conn.Write(raw)
			must(t, err)
			if _, err := c.conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the stream goes on: %v", err)
			}
		})
	}
	t.Run("not INIT first", func(t *testing.T) {
		ours, theirs := net.Pipe()
		ended := make(chan error)
		go func() { ended <- serve(ours, &volumes{}, io.Discard) }()
		c := &client{t: t, conn: theirs}
		if _, errno := c.lookup(rootID, "x"); errno != unix.EPROTO {
			t.Error(errno)
		}
		old := initBody()
		old[4] = 12
		if _, errno := c.call(opInit, 0, old); errno != unix.EPROTO {
			t.Error(errno)
		}
		// A message that is cut off.
		_, err := theirs.Write(bare(1, 1, 1, []byte("abc"))[:20])
		must(t, err)
		_ = theirs.Close()
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "EOF") {
			t.Error(err)
		}
	})
}

func TestBounds(t *testing.T) {
	dir := t.TempDir()
	for i := range 60 {
		must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i), "sub"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i), "sub", "f"), []byte(fmt.Sprint(i)), 0o644))
	}
	t.Run("handles", func(t *testing.T) {
		_, c := serveHere(t, dir, false, limits{nodes: 1000, descriptors: 10, handles: 5})
		id, _ := c.lookup(rootID, "0")
		for i := range 6 {
			_, errno := c.call(27, id, u32(0), u32(0))
			if want := unix.Errno(0); i < 5 && errno != want || i == 5 && errno != unix.ENFILE {
				t.Errorf("%d: %v", i, errno)
			}
		}
	})
	t.Run("nodes", func(t *testing.T) {
		f, c := serveHere(t, dir, false, limits{nodes: 10, descriptors: 10, handles: 5})
		var last uint64
		for i := range 10 {
			id, errno := c.lookup(rootID, fmt.Sprint(i))
			if i < 9 && errno != 0 || i == 9 && errno != unix.ENFILE {
				t.Errorf("%d: %v", i, errno)
			}
			if id != 0 {
				last = id
			}
		}
		c.forget(last, 1)
		if _, errno := c.lookup(rootID, "50"); errno != 0 {
			t.Error(errno)
		}
		if n := len(f.nodes.byID); n != 10 {
			t.Errorf("%d nodes", n)
		}
	})
	t.Run("descriptors are given up and come back", func(t *testing.T) {
		f, c := serveHere(t, dir, false, limits{nodes: 1000, descriptors: 4, handles: 5})
		var files []uint64
		for i := range 60 {
			a, _ := c.lookup(rootID, fmt.Sprint(i))
			b, _ := c.lookup(a, "sub")
			id, errno := c.lookup(b, "f")
			if errno != 0 {
				t.Fatal(errno)
			}
			files = append(files, id)
		}
		if f.nodes.open > 5 {
			t.Errorf("%d descriptors", f.nodes.open)
		}
		for i, id := range files {
			fh, errno := c.open(id, unix.O_RDONLY)
			if errno != 0 {
				t.Fatal(errno)
			}
			if got, _ := c.read(id, fh, 0, 10); string(got) != fmt.Sprint(i) {
				t.Errorf("%d: %q", i, got)
			}
			c.call(18, id, u64(fh), u64(0), u64(0))
		}
		if f.nodes.open > 5 {
			t.Errorf("%d descriptors", f.nodes.open)
		}
		// Another file in the place of one whose descriptor was given up is not taken for it.
		name := filepath.Join(dir, "0", "sub", "f")
		must(t, os.WriteFile(name+"2", []byte("other"), 0o644))
		must(t, os.Rename(name+"2", name))
		if _, errno := c.open(files[0], unix.O_RDONLY); errno != unix.ESTALE {
			t.Errorf("replaced: %v", errno)
		}
		if _, errno := c.call(3, files[0], make([]byte, 16)); errno != unix.ESTALE {
			t.Errorf("replaced: %v", errno)
		}
		// A folder that was moved on the host is found again through a new lookup, its contents too.
		must(t, os.Rename(filepath.Join(dir, "1"), filepath.Join(dir, "moved")))
		if _, errno := c.open(files[1], unix.O_RDONLY); errno != unix.ESTALE {
			t.Errorf("moved: %v", errno)
		}
		if _, errno := c.lookup(rootID, "moved"); errno != 0 {
			t.Error(errno)
		}
		if _, errno := c.open(files[1], unix.O_RDONLY); errno != 0 {
			t.Errorf("found again: %v", errno)
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		f, c := serveHere(t, dir, false, generous())
		var all [][]byte
		for i := 2; i < 60; i++ {
			a, _ := c.lookup(rootID, fmt.Sprint(i))
			b, _ := c.lookup(a, "sub")
			id, _ := c.lookup(b, "f")
			again, _ := c.lookup(b, "f")
			if again != id {
				t.Fatalf("%d and %d are one file", id, again)
			}
			for _, n := range []uint64{a, b, id} { // parents first
				all = append(all, u64(n), u64(1))
			}
			all = append(all, u64(id), u64(1))
		}
		c.send(opBatchForget, 0, u32(uint32(len(all)/2)), u32(0), bytes.Join(all, nil))
		if _, errno := c.lookup(rootID, "missing"); errno != unix.ENOENT { // the forgets are done by then
			t.Error(errno)
		}
		f.nodes.mu.Lock()
		defer f.nodes.mu.Unlock()
		if len(f.nodes.byID) != 1 || len(f.nodes.byKey) != 1 || f.nodes.open != 1 {
			t.Errorf("%d nodes, %d keys, %d descriptors are left", len(f.nodes.byID), len(f.nodes.byKey), f.nodes.open)
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add(bare(1, 1, 1, []byte("name\x00")))
	f.Add(bare(opInit, 1, 0, initBody()))
	f.Add(bare(45, 1, 1, append(make([]byte, 16), "a\x00b\x00"...)))
	f.Add(bare(16, 1, 1, make([]byte, 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerIn {
			return
		}
		reply, errno := parse(b).check()
		if errno == 0 && (reply < maxFixed || reply > maxFixed+pump.MaxData) {
			t.Errorf("a reply of %d bytes", reply)
		}
	})
}

// FuzzServer says anything to a server; nothing must come of it but answers, and nothing beside the folder may change.
func FuzzServer(f *testing.F) {
	f.Add([]byte{1, 1, 2, 'f', 0, 14, 2, 8, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{9, 1, 11, 0, 0, 0, 0, 0, 0, 0, 0, 'd', 'd', 0, 44, 1, 40})
	f.Add([]byte("\x06\x01\x06l\x00../\x00\x01\x01\x02l\x00\x05\x03\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "dir")
		must(t, os.MkdirAll(filepath.Join(dir, "d"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("inside"), 0o644))
		must(t, os.WriteFile(filepath.Join(base, "secret"), []byte("secret"), 0o600))
		_, c := serveHere(t, dir, false, limits{nodes: 20, descriptors: 3, handles: 5})
		done := make(chan struct{})
		go func() { defer close(done); _, _ = io.Copy(io.Discard, c.conn) }()
		c.lookupBlind("f")
		c.lookupBlind("d")
		for len(script) >= 3 {
			opcode, node, size := uint32(script[0]), uint64(script[1])%8, int(script[2])
			if node == 7 {
				node = ^uint64(0) // the library's own
			}
			rest := script[3:]
			rest = rest[:min(size, len(rest))]
			script = script[3+len(rest):]
			c.unique++
			if _, err := c.conn.Write(bare(opcode, c.unique, node, rest)); err != nil {
				break
			}
		}
		_ = c.conn.Close()
		<-done
		if b, err := os.ReadFile(filepath.Join(base, "secret")); err != nil || string(b) != "secret" {
			t.Errorf("the secret: %q %v", b, err)
		}
		if left, err := os.ReadDir(base); err != nil || len(left) != 2 {
			t.Errorf("beside the folder: %v %v", left, err)
		}
	})
}

// lookupBlind asks without reading the answer.
func (c *client) lookupBlind(name string) {
	c.unique++
	_, _ = c.conn.Write(bare(1, c.unique, rootID, append([]byte(name), 0)))
}
