package share

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/guest/share/pump"
)

// initMessage is a whole INIT request.
func initMessage() []byte { return bare(opInit, 1, 0, initBody()) }

func sampleState() *state {
	root := identity{dev: 5, ino: 2, born: 1e18, kind: unix.S_IFDIR}
	dir := identity{dev: 5, ino: 11, born: 2e18, kind: unix.S_IFDIR}
	return &state{
		root: root, lastNode: 9, lastHandle: 4, began: initMessage(),
		nodes: []savedNode{
			{id: 3, parent: 7, name: "f", key: identity{5, 12, -1, unix.S_IFREG}, lookups: 2, data: stamp{size: 4, mtime: unix.StatxTimestamp{Sec: -3, Nsec: 9}, ctime: unix.StatxTimestamp{Sec: 1}}},
			{id: 4, key: identity{5, 13, 4, unix.S_IFREG}, lookups: 1},
			{id: 7, parent: 1, name: "d", key: dir, lookups: 1, path: "a/b"},
			{id: 9, parent: 7, name: "foreign", key: identity{8, 12, 0, unix.S_IFLNK}, lookups: 1, changed: -77},
		},
		handles: []savedHandle{{id: 1, node: 3, access: unix.O_RDWR}, {id: 2, node: 1, dir: true}, {id: 4, node: 4, access: unix.O_WRONLY}},
		replies: []savedReply{{99, refusal(99)}},
	}
}

func refusal(unique uint64) []byte {
	b := pump.Refuse(unix.EEXIST)
	binary.NativeEndian.PutUint64(b[8:], unique)
	return b
}

func TestStateIsReadBack(t *testing.T) {
	for _, want := range []*state{nil, sampleState(), {root: identity{kind: unix.S_IFDIR}, lastNode: 1, began: initMessage()}} {
		b, err := want.encode()
		must(t, err)
		got, err := decode(b)
		must(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\n%+v", got, want)
		}
		for i := range b { // any byte but those of the version, which says so itself
			bad := bytes.Clone(b)
			bad[i] ^= 0x40
			if _, err := decode(bad); err == nil {
				t.Errorf("byte %d changed: taken", i)
			}
			if _, err := decode(b[:i]); err == nil {
				t.Errorf("cut at %d: taken", i)
			}
		}
		if _, err := decode(seal(append(bytes.Clone(b[:len(b)-4]), 0))); !errors.Is(err, errState) {
			t.Errorf("something behind it: %v", err)
		}
	}
}

func TestStateIsChecked(t *testing.T) {
	for name, change := range map[string]func(*state){
		"a path for a name":           func(s *state) { s.nodes[0].name = "../f" },
		"no name":                     func(s *state) { s.nodes[0].name = "" },
		"up":                          func(s *state) { s.nodes[0].name = ".." },
		"a zero in a name":            func(s *state) { s.nodes[0].name = "a/\x00" },
		"a path that climbs":          func(s *state) { s.nodes[2].path = "a/../../b" },
		"an absolute path":            func(s *state) { s.nodes[2].path = "/etc" },
		"an unknown parent":           func(s *state) { s.nodes[0].parent = 5 },
		"a file for a parent":         func(s *state) { s.nodes[3].parent = 3 },
		"its own parent":              func(s *state) { s.nodes[2].parent = 7 },
		"a circle":                    func(s *state) { s.nodes[2].parent = 9; s.nodes[3].key.kind = unix.S_IFDIR },
		"two nodes of one file":       func(s *state) { s.nodes[3].key = s.nodes[0].key },
		"the root twice":              func(s *state) { s.nodes[3].key = s.root },
		"a node with the root's id":   func(s *state) { s.nodes[0].id = 1 },
		"a node beyond the highest":   func(s *state) { s.lastNode = 8 },
		"a gone file with a name":     func(s *state) { s.nodes[1].name = "x" },
		"a handle beyond":             func(s *state) { s.lastHandle = 3 },
		"a handle of nothing":         func(s *state) { s.handles[0].node = 5 },
		"a file's handle on the root": func(s *state) { s.handles[1].dir = false },
		"a folder's on a file":        func(s *state) { s.handles[0].dir = true },
		"a handle of a link":          func(s *state) { s.handles[0].node = 9 },
		"a handle in no mode":         func(s *state) { s.handles[0].access = 3 },
		"no INIT":                     func(s *state) { s.began = nil },
		"another request":             func(s *state) { s.began = bare(3, 1, 1, make([]byte, 16)) },
		"an old INIT":                 func(s *state) { s.began[headerIn+4] = 12 },
		"a reply to another":          func(s *state) { s.replies[0].unique = 7 },
		"a short reply":               func(s *state) { s.replies[0].reply = []byte{1} },
	} {
		s := sampleState()
		change(s)
		b, err := s.encode()
		must(t, err)
		if _, err := decode(b); !errors.Is(err, errState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := seal(append([]byte(stateMagic), 2, 0))
	if _, err := decode(b); err == nil || errors.Is(err, errState) {
		t.Errorf("a newer version: %v", err)
	}
}

// again is a client that goes on with what another one began.
func (c *client) again(v *volumes, resent uint32) (*client, unix.Errno) {
	c.t.Helper()
	next := serveVolumes(c.t, v)
	next.unique = pump.ResumeUnique - 1
	_, errno := next.call(pump.Resume, 0, u32(pump.ResumeVersion), u32(resent))
	next.unique = c.unique
	return next, errno
}

// TestServerGoesOn is the protocol of it, without a kernel.
func TestServerGoesOn(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644))
	v := &volumes{open: func() (*folder, error) { return openHere(t, dir, generous()) }}
	t.Cleanup(func() { v.close() })
	first := serveVolumes(t, v)
	if _, errno := first.call(opInit, 0, initBody()); errno != 0 {
		t.Fatal(errno)
	}
	f, _ := first.lookup(rootID, "f")
	fh, _ := first.open(f, unix.O_RDWR)
	made := func(c *client) ([]byte, unix.Errno) {
		return c.call(9, rootID, u32(0o755), u32(0), []byte("made\x00"))
	}
	want, errno := made(first)
	if errno != 0 {
		t.Fatal(errno)
	}
	// The server is not told that the stream is dead.
	second, errno := first.again(v, 1)
	if errno != 0 {
		t.Fatal(errno)
	}
	second.unique--
	if got, errno := made(second); errno != 0 || !bytes.Equal(got, want) {
		t.Errorf("sent again: %v", errno)
	}
	if _, errno := made(second); errno != unix.EEXIST {
		t.Errorf("asked again: %v", errno)
	}
	if _, errno := second.call(pump.Barrier, 0); errno != 0 {
		t.Error(errno)
	}
	if _, errno := second.call(pump.Resume, 0, u32(pump.ResumeVersion), u32(0)); errno != unix.EPROTO {
		t.Errorf("resumed twice: %v", errno)
	}
	saved, err := v.save()
	must(t, err)

	after := &volumes{open: v.open}
	t.Cleanup(func() { after.close() })
	if lost, err := after.load(saved); err != nil || lost != 0 {
		t.Fatal(lost, err)
	}
	if again, err := after.save(); err != nil || !bytes.Equal(again, saved) {
		t.Errorf("what is saved anew is another state: %v", err)
	}
	third, errno := first.again(after, 1)
	if errno != 0 {
		t.Fatal(errno)
	}
	third.unique--
	if got, errno := made(third); errno != 0 || !bytes.Equal(got, want) {
		t.Errorf("sent again to another process: %v", errno)
	}
	third.unique = second.unique
	if got, errno := third.read(f, fh, 3, 100); errno != 0 || string(got) != "tent" {
		t.Errorf("%q %v", got, errno)
	}
	if id, errno := third.lookup(rootID, "f"); errno != 0 || id != f {
		t.Errorf("node %d, was %d: %v", id, f, errno)
	}
	third.forget(f, 1)
	third.call(18, f, u64(fh), u64(0), u64(0))
	if id, errno := third.lookup(rootID, "f"); errno != 0 || id != f {
		t.Errorf("forgotten too early: %v", errno)
	}
	third.forget(f, 2)
	if id, errno := third.lookup(rootID, "f"); errno != 0 || id <= f {
		t.Errorf("a number is used twice: %d %v", id, errno)
	}
	// When the guest has unmounted there is nothing to go on with.
	if _, errno := third.call(opDestroy, 0); errno != 0 {
		t.Error(errno)
	}
	third.hangUp()
	if _, errno := third.again(after, 0); errno != unix.ESTALE {
		t.Errorf("resumed what was unmounted: %v", errno)
	}
	if after.current != nil {
		t.Error("the table is still there")
	}
	if _, errno := (&client{t: t}).again(&volumes{}, 0); errno != unix.ESTALE {
		t.Errorf("resumed nothing: %v", errno)
	}
}

// TestOtherDevice loads a state from before the host was started anew: the disk has another number.
func TestOtherDevice(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644))
	for name, change := range map[string]func(*state){
		"the same folder": func(*state) {},
		"another folder":  func(s *state) { s.root.ino++ },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := openHere(t, dir, generous())
			must(t, err)
			st, err := statAt(f.root, "f")
			must(t, err)
			key := identify(&st)
			if key.born == 0 {
				t.Skip("no times of birth here")
			}
			key.dev += 1000
			s := &state{root: f.nodes.byID[rootID].key, lastNode: 2, nodes: []savedNode{{id: 2, parent: 1, name: "f", key: key, lookups: 1}}}
			s.root.dev += 1000
			change(s)
			_, err = f.restore(s)
			must(t, err)
			n, err := f.nodes.get(2)
			must(t, err)
			_, err = f.nodes.stat(n)
			if name == "the same folder" {
				must(t, err)
			} else {
				wantErrno(t, err, unix.ESTALE)
			}
			f.close()
		})
	}
}

// TestNoBirth serves a folder of a file system that keeps no time of birth: that of a share.
func TestNoBirth(t *testing.T) {
	m := mount(t)
	id, fh := map[string]uint64{}, map[string]uint64{}
	v := &volumes{open: func() (*folder, error) { return openHere(t, m.guest, generous()) }}
	c := serveVolumes(t, v)
	if _, errno := c.call(opInit, 0, initBody()); errno != 0 {
		t.Fatal(errno)
	}
	for _, name := range []string{"same", "changed", "gone"} {
		must(t, os.WriteFile(filepath.Join(m.guest, name), []byte(name), 0o644))
		id[name], _ = c.lookup(rootID, name)
		fh[name], _ = c.open(id[name], unix.O_RDWR)
	}
	b, err := v.save()
	must(t, err)
	c.hangUp()
	v.close()
	must(t, os.Chmod(filepath.Join(m.guest, "changed"), 0o600))
	must(t, os.Remove(filepath.Join(m.guest, "gone")))
	lost, err := v.load(b)
	must(t, err)
	if lost != 2 {
		t.Errorf("%d lost", lost)
	}
	c, errno := c.again(v, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	for name, id := range id {
		got, errno := c.read(id, fh[name], 0, 100)
		switch {
		case name == "same" && (errno != 0 || string(got) != name):
			t.Errorf("%s: %q %v", name, got, errno)
		case name != "same" && errno != unix.ESTALE:
			t.Errorf("%s: %q %v", name, got, errno)
		}
	}
	if again, errno := c.lookup(rootID, "changed"); errno != 0 || again == id["changed"] {
		t.Errorf("what may be another file has its number: %d %v", again, errno)
	}
	c.hangUp()
	files := v.current.files
	v.close()
	if files.nodes.open != 0 {
		t.Errorf("%d descriptors are left", files.nodes.open)
	}
}

func openHere(t testing.TB, dir string, most limits) (*folder, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	proc, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = unix.Close(proc) })
	return newFolder(root, proc, owners{uint32(os.Getuid()), uint32(os.Getgid()), 1000, 1000}, false, most)
}

// FuzzState reads what anybody may have written. What is taken says the same when it is written again, and can be loaded, at worst as a table of files that are
// gone.
func FuzzState(f *testing.F) {
	for _, s := range []*state{nil, sampleState()} {
		b, err := s.encode()
		must(f, err)
		f.Add(b[len(stateMagic) : len(b)-4])
	}
	dir := f.TempDir()
	must(f, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	must(f, os.WriteFile(filepath.Join(dir, "d"), []byte("x"), 0o644))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(append([]byte(stateMagic), body...))
		s, err := decode(b)
		if err != nil || s == nil {
			return
		}
		b, err = s.encode()
		must(t, err)
		again, err := decode(b)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%v\n%+v\n%+v", err, s, again)
		}
		v := &volumes{open: func() (*folder, error) {
			return openHere(t, dir, limits{nodes: 100, descriptors: 3, handles: 5})
		}}
		if _, err := v.load(b); err != nil {
			return
		}
		files := v.current.files
		for id := range files.handles.byID {
			files.handles.remove(id)
		}
		for _, n := range s.nodes {
			files.nodes.forget(n.id, ^uint64(0))
		}
		if len(files.nodes.byID) != 1 || len(files.nodes.byKey) != 1 {
			t.Errorf("%d nodes, %d keys are left", len(files.nodes.byID), len(files.nodes.byKey))
		}
		v.close()
		if files.nodes.open != 0 {
			t.Errorf("%d descriptors are left", files.nodes.open)
		}
	})
}
