package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"capsid/vmm/disk"
)

// testDisk is a stack of three layers: 1s, then 2s in the second half, then nothing.
func testDisk(t testing.TB, size int64, readOnly bool) (*disk.Stack, []byte) {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	want := make([]byte, size)
	for i := range 3 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := disk.Create(path, size); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
		if i < 2 {
			s, err := disk.OpenPaths(paths, false)
			if err != nil {
				t.Fatal(err)
			}
			from := size / 2 * int64(i)
			copy(want[from:], bytes.Repeat([]byte{byte(i + 1)}, int(size-from)))
			if _, err := s.WriteAt(want[from:], from); err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
	}
	s, err := disk.OpenPaths(paths, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, want
}

// client is one that says what it likes.
type client struct {
	t    testing.TB
	conn net.Conn
	done chan error
}

func dial(t testing.TB, d Disk) *client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t, conn, make(chan error, 1)}
	go func() { c.done <- Serve(theirs, d) }()
	conn.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { conn.Close() })
	return c
}

func (c *client) send(values ...any) {
	c.t.Helper()
	if _, err := c.conn.Write(pack(values...)); err != nil {
		c.t.Fatal(err)
	}
}

func pack(values ...any) []byte {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case string:
			b = append(b, v...)
		default:
			var err error
			if b, err = binary.Append(b, binary.BigEndian, v); err != nil {
				panic(err)
			}
		}
	}
	return b
}

func (c *client) get(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *client) want(what string, values ...any) {
	c.t.Helper()
	want := pack(values...)
	if got := c.get(len(want)); !bytes.Equal(got, want) {
		c.t.Fatalf("%s: %x, want %x", what, got, want)
	}
}

const replyMagic = uint64(0x3e889045565a9)

// begin ends the handshake by GO.
func (c *client) begin(size int64, flags uint16) {
	c.t.Helper()
	c.want("hello", "NBDMAGICIHAVEOPT", uint16(3))
	c.send(uint32(3))
	c.send("IHAVEOPT", uint32(7), uint32(12), uint32(4), "name", uint16(1), uint16(3))
	c.want("info", replyMagic, uint32(7), uint32(3), uint32(12), uint16(0), uint64(size), flags)
	c.want("sizes", replyMagic, uint32(7), uint32(3), uint32(14), uint16(3), uint32(512), uint32(4096), uint32(2<<20))
	c.want("ack", replyMagic, uint32(7), uint32(1), uint32(0))
}

func (c *client) request(flags, kind uint16, off uint64, n uint32, data []byte) uint32 {
	c.t.Helper()
	c.send(uint32(0x25609513), flags, kind, uint64(77), off, n, data)
	got := c.get(16)
	if !bytes.Equal(got[:4], pack(uint32(0x67446698))) || !bytes.Equal(got[8:], pack(uint64(77))) {
		c.t.Fatalf("reply %x", got)
	}
	return binary.BigEndian.Uint32(got[4:])
}

func (c *client) end(want error) {
	c.t.Helper()
	select {
	case err := <-c.done:
		if !errors.Is(err, want) || want == nil && err != nil {
			c.t.Errorf("served: %v, want %v", err, want)
		}
	case <-time.After(time.Minute):
		c.t.Fatal("it serves on")
	}
}

func TestHandshake(t *testing.T) {
	s, _ := testDisk(t, 1<<20, false)
	c := dial(t, s)
	c.want("hello", "NBDMAGICIHAVEOPT", uint16(3))
	c.send(uint32(1))
	c.send("IHAVEOPT", uint32(8), uint32(0)) // structured replies
	c.want("unsupported", replyMagic, uint32(8), uint32(1<<31+1), uint32(0))
	c.send("IHAVEOPT", uint32(3), uint32(0))
	c.want("list", replyMagic, uint32(3), uint32(2), uint32(4), uint32(0), replyMagic, uint32(3), uint32(1), uint32(0))
	for _, bad := range []string{"", "\x00\x00\x00\x05name\x00\x00", "\x00\x00\x00\x00\x00\x01", "\xff\xff\xff\xff\x00\x00", "\x00\x00\x00\x00\x00\x00\x00"} {
		c.send("IHAVEOPT", uint32(6), uint32(len(bad)), bad)
		c.want("invalid", replyMagic, uint32(6), uint32(1<<31+3), uint32(0))
	}
	c.send("IHAVEOPT", uint32(1), uint32(3), "old")
	c.want("export", uint64(1<<20), uint16(0x6d), make([]byte, 124))
	if code := c.request(0, 3, 0, 0, nil); code != 0 {
		t.Errorf("flush: %d", code)
	}
	c.send(uint32(0x25609513), uint16(0), uint16(2), uint64(1), uint64(0), uint32(0))
	c.end(nil)

	c = dial(t, s)
	c.get(18)
	c.send(uint32(3))
	c.send("IHAVEOPT", uint32(2), uint32(0))
	c.want("ack", replyMagic, uint32(2), uint32(1), uint32(0))
	c.end(nil)
	for name, text := range map[string][]byte{
		"no newstyle":    pack(uint32(0)),
		"unknown flags":  pack(uint32(1 << 5)),
		"no option":      pack(uint32(1), "IHAVENOT", uint32(7), uint32(0)),
		"a long option":  pack(uint32(1), "IHAVEOPT", uint32(7), uint32(1<<20)),
		"many options":   append(pack(uint32(1)), bytes.Repeat(pack("IHAVEOPT", uint32(99), uint32(0)), 64)...),
		"no request":     pack(uint32(3), "IHAVEOPT", uint32(1), uint32(0), make([]byte, 28)),
		"a long write":   pack(uint32(3), "IHAVEOPT", uint32(1), uint32(0), uint32(0x25609513), uint16(0), uint16(1), uint64(1), uint64(0), uint32(2<<20+1)),
		"longest number": pack(uint32(3), "IHAVEOPT", uint32(1), uint32(0), uint32(0x25609513), uint16(0), uint16(1), uint64(1), uint64(0), uint32(1<<32-1)),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s)
			go io.Copy(io.Discard, c.conn)
			c.send(text)
			c.end(ErrProtocol)
		})
	}
	c = dial(t, s)
	c.conn.Close()
	c.end(nil)
}

func TestRequests(t *testing.T) {
	const size = 4 << 20
	s, want := testDisk(t, size, false)
	c := dial(t, s)
	c.begin(size, 0x6d)
	check := func(what string) {
		t.Helper()
		for off := 0; off < size; off += 2 << 20 {
			if code := c.request(0, 0, uint64(off), 2<<20, nil); code != 0 {
				t.Fatalf("%s: read: %d", what, code)
			}
			if got := c.get(2 << 20); !bytes.Equal(got, want[off:off+2<<20]) {
				t.Fatalf("%s: wrong bytes", what)
			}
		}
	}
	check("at first")
	for _, r := range []struct {
		what        string
		flags, kind uint16
		off         uint64
		n           uint32
		code        uint32
	}{
		{"write", 0, 1, 1000, 70000, 0},
		{"write through", 1, 1, size - 512, 512, 0},
		{"write nothing", 0, 1, 0, 0, 0},
		{"zero", 0, 6, 4096, 1 << 20, 0},
		{"zero, no hole, through", 3, 6, size/2 - 100, 200, 0},
		{"flush", 0, 3, 0, 0, 0},
		{"read over the end", 0, 0, size - 1, 2, 22},
		{"read far out", 0, 0, 1<<64 - 1, 2, 22},
		{"long read", 0, 0, 0, 2<<20 + 1, 22},
		{"longest read", 0, 0, 0, 1<<32 - 1, 22},
		{"write over the end", 0, 1, size - 1, 2, 28},
		{"write far out", 0, 1, 1 << 63, 2, 28},
		{"zero over the end", 0, 6, 1, size, 28},
		{"trim over the end", 0, 4, 1, size, 22},
		{"unknown flag", 4, 0, 0, 512, 22},
		{"fast zero", 16, 6, 0, 512, 22},
		{"block status", 0, 7, 0, 512, 22},
		{"unknown", 0, 99, 0, 512, 22},
	} {
		var data []byte
		if r.kind == 1 {
			data = bytes.Repeat([]byte{0xdd}, int(r.n))
		}
		if code := c.request(r.flags, r.kind, r.off, r.n, data); code != r.code {
			t.Errorf("%s: %d, want %d", r.what, code, r.code)
		}
		if r.code == 0 && r.kind == 1 {
			copy(want[r.off:], data)
		}
		if r.code == 0 && r.kind == 6 {
			clear(want[r.off:][:r.n])
		}
		check(r.what)
	}
	// All of it has data below: a trim leaves it.
	if code := c.request(0, 4, 0, size, nil); code != 0 {
		t.Errorf("trim: %d", code)
	}
	check("trim")
	c.conn.Close()
	c.end(nil)

	ro, want := testDisk(t, size, true)
	c = dial(t, ro)
	c.begin(size, 7)
	for _, kind := range []uint16{1, 4, 6} {
		data := make([]byte, 512)
		if kind != 1 {
			data = nil
		}
		if code := c.request(0, kind, 0, 512, data); code != 1 {
			t.Errorf("change %d of a read-only disk: %d", kind, code)
		}
	}
	if code := c.request(0, 3, 0, 0, nil); code != 0 {
		t.Errorf("flush: %d", code)
	}
	if code := c.request(0, 0, 0, 512, nil); code != 0 || !bytes.Equal(c.get(512), want[:512]) {
		t.Errorf("read: %d", code)
	}
}

// slow lets reads go on when it is told to.
type slow struct {
	Disk
	begun, token chan struct{}
}

func (s *slow) Readv(v [][]byte, off int64, atOnce bool) (int, error) {
	s.begun <- struct{}{}
	<-s.token
	return s.Disk.Readv(v, off, atOnce)
}

// Requests are served side by side, as many as there is room for, and answered as they are done; those of a client that has gone end.
func TestInFlight(t *testing.T) {
	d, _ := testDisk(t, 1<<20, false)
	s := &slow{d, make(chan struct{}, 100), make(chan struct{})}
	c := dial(t, s)
	c.begin(1<<20, 0x6d)
	const reads = 2 * maxInFlight
	for i := range reads {
		c.send(uint32(0x25609513), uint16(0), uint16(0), uint64(i), uint64(i*512), uint32(512))
		if i == maxInFlight-2 { // overtakes them
			if code := c.request(0, 3, 0, 0, nil); code != 0 {
				t.Errorf("flush: %d", code)
			}
		}
	}
	for range maxInFlight {
		<-s.begun
	}
	select {
	case <-s.begun:
		t.Error("there is no bound")
	default:
	}
	go func() {
		for range reads {
			s.token <- struct{}{}
		}
	}()
	seen := map[uint64]bool{}
	for range reads {
		b := c.get(16 + 512)
		seen[binary.BigEndian.Uint64(b[8:])] = true
	}
	if len(seen) != reads {
		t.Errorf("%d answers", len(seen))
	}
	c.send(uint32(0x25609513), uint16(0), uint16(0), uint64(1), uint64(0), uint32(512))
	for range maxInFlight + 1 {
		<-s.begun
	}
	c.conn.Close()
	s.token <- struct{}{}
	c.end(nil)
}

// QEMU's own client reads, writes, zeroes and discards as it should.
func TestQEMU(t *testing.T) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		t.Fatalf("%v: it is of the package qemu-utils, which packaging/deps.sh test installs", err)
	}
	const size = 8 << 20
	s, want := testDisk(t, size, false)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := Serve(conn, s); err != nil {
				t.Error(err)
			}
		}
	})
	defer served.Wait()
	defer l.Close()
	args := []string{"-f", "raw", "-d", "unmap", "nbd+unix:///?socket=" + path}
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		off := r.IntN(size/512) * 512
		n := 512 * (1 + r.IntN((size-off)/512))
		value := 1 + r.IntN(255)
		switch r.IntN(5) {
		case 0, 1:
			args = append(args, "-c", fmt.Sprintf("aio_write -q -P %d %d %d", value, off, n), "-c", "aio_flush")
			copy(want[off:], bytes.Repeat([]byte{byte(value)}, n))
		case 2:
			args = append(args, "-c", fmt.Sprintf("write -q -z -u %d %d", off, n))
			clear(want[off : off+n])
		case 3:
			args = append(args, "-c", fmt.Sprintf("write -q -z %d %d", off, n))
			clear(want[off : off+n])
		default:
			args = append(args, "-c", fmt.Sprintf("write -q -f -P %d %d %d", value, off, n))
			copy(want[off:], bytes.Repeat([]byte{byte(value)}, n))
		}
	}
	args = append(args, "-c", "flush")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-io", args...).CombinedOutput()
	if err != nil || strings.Contains(strings.ToLower(string(out)), "error") || strings.Contains(string(out), "failed") {
		t.Fatalf("%v: %s", err, out)
	}
	got := make([]byte, size)
	if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the disk is not what was written, %v; %s", err, out)
	}
}

// memory is a disk that would panic if it were asked for what it does not have.
type memory struct {
	mu       sync.Mutex
	data     []byte
	readOnly bool
}

func (m *memory) Size() int64    { return int64(len(m.data)) }
func (m *memory) ReadOnly() bool { return m.readOnly }
func (m *memory) Sync() error    { return nil }

func (m *memory) Readv(v [][]byte, off int64, _ bool) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(v[0], m.data[off:off+int64(len(v[0]))]), nil
}

func (m *memory) Writev(v [][]byte, off int64, _ bool) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.readOnly {
		panic("a read-only disk is written")
	}
	return copy(m.data[off:off+int64(len(v[0]))], v[0]), nil
}

func (m *memory) Zero(off, n int64, _ bool) error {
	_, err := m.Writev([][]byte{make([]byte, n)}, off, false)
	return err
}

func (m *memory) Discard(off, n int64) error { return m.Zero(off, n, true) }

// A hostile client: whatever it sends, it is served or cut off, and takes no more than it may.
func FuzzServe(f *testing.F) {
	hello := pack(uint32(3), "IHAVEOPT", uint32(1), uint32(0))
	request := func(flags, kind uint16, off uint64, n uint32, data []byte) []byte {
		return pack(uint32(0x25609513), flags, kind, uint64(5), off, n, data)
	}
	f.Add(pack(uint32(3), "IHAVEOPT", uint32(7), uint32(6), uint32(0), uint16(0)))
	f.Add(pack(uint32(1), "IHAVEOPT", uint32(3), uint32(0), "IHAVEOPT", uint32(2), uint32(0)))
	f.Add(append(bytes.Clone(hello), request(0, 0, 512, 512, nil)...))
	f.Add(append(bytes.Clone(hello), request(1, 1, 100, 5, []byte("hello"))...))
	f.Add(append(bytes.Clone(hello), append(request(0, 6, 0, 65536, nil), request(0, 4, 0, 65536, nil)...)...))
	f.Add(append(bytes.Clone(hello), append(request(0, 3, 0, 0, nil), request(0, 2, 0, 0, nil)...)...))
	f.Fuzz(func(t *testing.T, text []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		c := &client{t, ours, make(chan error, 1)}
		go func() { c.done <- Serve(theirs, &memory{data: make([]byte, 64<<10), readOnly: len(text)%2 == 1}) }()
		drained := make(chan struct{})
		go func() {
			io.Copy(io.Discard, c.conn)
			close(drained)
		}()
		c.conn.Write(text)
		c.conn.Close()
		select {
		case err := <-c.done:
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("it serves on")
		}
		<-drained
	})
}
