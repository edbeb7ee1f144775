package share

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// bare is a request as the kernel would send it.
func bare(opcode uint32, unique, node uint64, rest []byte) []byte {
	b := make([]byte, headerIn, headerIn+len(rest))
	binary.NativeEndian.PutUint32(b, uint32(headerIn+len(rest)))
	binary.NativeEndian.PutUint32(b[4:], opcode)
	binary.NativeEndian.PutUint64(b[8:], unique)
	binary.NativeEndian.PutUint64(b[16:], node)
	return append(b, rest...)
}

func u64(v uint64) []byte { return binary.NativeEndian.AppendUint64(nil, v) }
func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// initBody is what Linux 6.12 says of itself, with all it can do.
func initBody() []byte {
	b := bytes.Join([][]byte{u32(7), u32(41), u32(128 << 10), u32(^uint32(0)), u32(^uint32(0))}, nil)
	return append(b, make([]byte, 44)...)
}

// client is a guest's kernel without a kernel: it says what it is told to.
type client struct {
	t      testing.TB
	conn   net.Conn
	unique uint64
	ended  chan error
	gone   bool
}

// serveHere serves dir in this process, without walls, to a client.
func serveHere(t testing.TB, dir string, readOnly bool, most limits) (*folder, *client) {
	t.Helper()
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFolder(root, proc, owners{uint32(os.Getuid()), uint32(os.Getgid()), 1000, 1000}, readOnly, most)
	if err != nil {
		t.Fatal(err)
	}
	v := &volumes{open: func() (*folder, error) { return f, nil }}
	t.Cleanup(func() {
		v.close()
		if f.nodes.open != 0 || len(f.handles.byID) != 0 {
			t.Errorf("%d descriptors and %d handles are left", f.nodes.open, len(f.handles.byID))
		}
		_ = unix.Close(proc)
	})
	c := serveVolumes(t, v)
	if _, errno := c.call(opInit, 0, initBody()); errno != 0 {
		t.Fatal(errno)
	}
	return f, c
}

// serveVolumes serves a new stream, until the client hangs up or the test ends.
func serveVolumes(t testing.TB, v *volumes) *client {
	ours, theirs := net.Pipe()
	c := &client{t: t, conn: theirs, ended: make(chan error, 1)}
	go func() { c.ended <- serve(ours, v, io.Discard) }()
	t.Cleanup(c.hangUp)
	return c
}

// hangUp ends the stream, and returns when the server has ended it too.
func (c *client) hangUp() {
	if c.gone {
		return
	}
	c.gone = true
	_ = c.conn.Close()
	if err := <-c.ended; err != nil && strings.Contains(err.Error(), "panic") {
		c.t.Error(err)
	}
}

func (c *client) send(opcode uint32, node uint64, rest ...[]byte) {
	c.unique++
	if _, err := c.conn.Write(bare(opcode, c.unique, node, bytes.Join(rest, nil))); err != nil {
		c.t.Fatal(err)
	}
}

// call sends a request and waits for its answer.
func (c *client) call(opcode uint32, node uint64, rest ...[]byte) ([]byte, unix.Errno) {
	c.t.Helper()
	c.send(opcode, node, rest...)
	var head [headerOut]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		c.t.Fatal(err)
	}
	body := make([]byte, binary.NativeEndian.Uint32(head[:])-headerOut)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		c.t.Fatal(err)
	}
	if got := binary.NativeEndian.Uint64(head[8:]); got != c.unique {
		c.t.Fatalf("an answer to %d, not to %d", got, c.unique)
	}
	return body, unix.Errno(-int32(binary.NativeEndian.Uint32(head[4:])))
}

func (c *client) lookup(parent uint64, name string) (uint64, unix.Errno) {
	c.t.Helper()
	b, errno := c.call(1, parent, append([]byte(name), 0))
	if errno != 0 {
		return 0, errno
	}
	return binary.NativeEndian.Uint64(b), 0
}

func (c *client) open(node uint64, flags uint32) (uint64, unix.Errno) {
	c.t.Helper()
	b, errno := c.call(14, node, u32(flags), u32(0))
	if errno != 0 {
		return 0, errno
	}
	return binary.NativeEndian.Uint64(b), 0
}

func (c *client) read(node, fh, offset uint64, size uint32) ([]byte, unix.Errno) {
	c.t.Helper()
	return c.call(15, node, u64(fh), u64(offset), u32(size), u32(0), u64(0), u32(0), u32(0))
}

func (c *client) create(parent uint64, name string) unix.Errno {
	c.t.Helper()
	_, errno := c.call(8, parent, u32(unix.S_IFREG|0o644), u32(0), u32(0), u32(0), append([]byte(name), 0))
	return errno
}

func (c *client) forget(node, count uint64) { c.send(opForget, node, u64(count)) }
