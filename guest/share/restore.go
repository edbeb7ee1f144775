package share

import (
	"golang.org/x/sys/unix"
)

// load takes over a state that save wrote, in a process that may be years younger. It returns how many open files and folders were lost with what they were of.
func (s *volumes) load(b []byte) (lost int, err error) {
	st, err := decode(b)
	if err != nil || st == nil {
		return 0, err
	}
	f, err := s.open()
	if err != nil {
		return 0, err
	}
	if lost, err = f.restore(st); err != nil {
		f.close()
		return 0, err
	}
	var answer [maxFixed]byte
	v, _ := newVolume(f, st.began, answer[:])
	for _, r := range st.replies {
		v.recent.add(r.unique, r.reply)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = v
	return lost, nil
}

// restore fills a folder that nobody has used. Nodes are opened when they are needed, as ever, and must then be the files that they were; handles are opened now,
// and one whose file is not there any more is kept as lost: ESTALE to whoever uses it.
//
// The root is what it was said to be, whether or not it is the same folder; nothing else is believed.
func (f *folder) restore(s *state) (lost int, err error) {
	if len(s.nodes) >= f.nodes.limit {
		return 0, unix.ENFILE
	}
	root := f.nodes.byID[rootID]
	// Device numbers are given out anew when the host starts.
	moved := root.key.dev != s.root.dev && root.key.ino == s.root.ino && root.key.born == s.root.born && s.root.born != 0
	for _, n := range s.nodes {
		if moved && n.key.dev == s.root.dev {
			n.key.dev = root.key.dev
		}
		f.nodes.byID[n.id] = &node{id: n.id, key: n.key, lookups: n.lookups, name: n.name, fd: -1, data: n.data}
	}
	f.nodes.last = s.lastNode
	for _, saved := range s.nodes {
		n := f.nodes.byID[saved.id]
		if saved.parent == 0 {
			continue
		}
		if n.parent = f.nodes.byID[saved.parent]; f.nodes.byKey[n.key] != nil {
			n.parent, n.name = nil, "" // what was a folder in the root is the root now
			continue
		}
		n.parent.kids++
		f.nodes.byKey[n.key] = n
	}
	for _, saved := range s.nodes {
		n := f.nodes.byID[saved.id]
		if saved.path != "" {
			f.find(n, saved.path)
		}
		if saved.key.born == 0 && n.parent != nil {
			f.recognize(n, saved.changed)
		}
	}
	f.handles.last = s.lastHandle
	for _, h := range s.handles {
		if !f.restoreHandle(h) {
			lost++
		}
	}
	f.nodes.mu.Lock()
	defer f.nodes.mu.Unlock()
	for _, saved := range s.nodes {
		if n := f.nodes.byID[saved.id]; n != nil {
			f.nodes.collect(n)
		}
	}
	return lost, nil
}

// find opens a node that was not where its parents say when it was saved.
func (f *folder) find(n *node, path string) {
	fd, err := openAt(f.root, path)
	if err != nil {
		return
	}
	st, err := statAt(fd, "")
	if err != nil || identify(&st) != n.key {
		_ = unix.Close(fd)
		return
	}
	f.nodes.mu.Lock()
	f.nodes.hold(n)
	f.nodes.mu.Unlock()
	f.nodes.adopt(n, fd)
	f.nodes.release(n)
}

// recognize gives a file up that has no time of birth and has changed: it may be another one with the same number.
func (f *folder) recognize(n *node, changed int64) {
	st, err := f.nodes.stat(n)
	if err == nil && st.Ctime.Sec*1e9+int64(st.Ctime.Nsec) == changed {
		return
	}
	f.nodes.mu.Lock()
	defer f.nodes.mu.Unlock()
	f.nodes.shut(n)
	delete(f.nodes.byKey, n.key)
	parent := n.parent
	n.parent, n.name = nil, ""
	parent.kids--
}

// restoreHandle opens a file again, with the number that the guest knows; false if it is lost.
func (f *folder) restoreHandle(saved savedHandle) bool {
	n := f.nodes.byID[saved.node]
	h := &handle{node: n, fd: -1, access: saved.access, refs: 1}
	if saved.dir {
		h.dir = &dirStream{}
	}
	f.handles.byID[saved.id] = h
	ref, err := f.nodes.pin(n)
	if err != nil || len(f.handles.byID) > f.handles.limit {
		if err == nil {
			f.nodes.release(n)
		}
		f.nodes.mu.Lock()
		f.nodes.hold(n) // the handle's, until it is removed
		f.nodes.mu.Unlock()
		return false
	}
	how := saved.access
	if saved.dir {
		how |= unix.O_DIRECTORY
	}
	if h.fd, err = f.reopen(ref, how); err == unix.EACCES && !f.readOnly {
		h.fd, err = f.force(ref, how)
	}
	if err != nil {
		h.fd = -1
	}
	return err == nil
}

// force opens a file whose mode has come to forbid what the handle was opened for, as that of a file which was made with mode 0444 to be written does.
func (f *folder) force(ref, how int) (int, error) {
	st, err := statAt(ref, "")
	if err != nil {
		return -1, err
	}
	mode := uint32(st.Mode &^ unix.S_IFMT)
	chmod := func(mode uint32) error {
		return retry(func() error { return unix.Fchmodat(f.proc, reference(ref), mode, 0) })
	}
	if err := chmod(mode | 0o600); err != nil {
		return -1, err
	}
	fd, err := f.reopen(ref, how)
	if back := chmod(mode); back != nil && err == nil {
		_ = unix.Close(fd)
		return -1, back
	}
	return fd, err
}
