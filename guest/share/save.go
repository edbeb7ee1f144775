package share

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// save writes down the file system that the guest has mounted; requests wait meanwhile.
func (s *volumes) save() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.current
	if v == nil {
		return (*state)(nil).encode()
	}
	v.gate.Lock()
	st := v.files.save()
	v.gate.Unlock()
	st.began, st.replies = v.began, v.recent.all()
	return st.encode()
}

// save takes the state down. No request may be in progress.
func (f *folder) save() *state {
	f.nodes.mu.Lock()
	s := &state{lastNode: f.nodes.last, root: f.nodes.byID[rootID].key, nodes: make([]savedNode, 0, len(f.nodes.byID))}
	where := f.linked(f.root)
	for _, n := range f.nodes.byID {
		if n.id != rootID {
			s.nodes = append(s.nodes, f.saveNode(n, where))
		}
	}
	f.nodes.mu.Unlock()
	slices.SortFunc(s.nodes, func(a, b savedNode) int { return cmp.Compare(a.id, b.id) })
	for i := range s.nodes {
		f.saveChanged(&s.nodes[i])
	}
	f.handles.mu.Lock()
	defer f.handles.mu.Unlock()
	s.lastHandle = f.handles.last
	for id, h := range f.handles.byID {
		saved := savedHandle{id: id, node: h.node.id, access: h.access, dir: h.dir != nil}
		s.handles = append(s.handles, saved)
	}
	slices.SortFunc(s.handles, func(a, b savedHandle) int { return cmp.Compare(a.id, b.id) })
	return s
}

// saveNode says where a file is found again. Its last place is asked only of one that has a descriptor: that one might be elsewhere by now, or nowhere.
func (f *folder) saveNode(n *node, root string) savedNode {
	s := savedNode{id: n.id, name: n.name, key: n.key, lookups: n.lookups, data: n.data}
	if n.parent != nil {
		s.parent = n.parent.id
	}
	if n.fd < 0 || s.parent == 0 {
		return s
	}
	st, err := statAt(n.fd, "")
	if err != nil || st.Nlink == 0 || f.nodes.byKey[n.key] != n {
		s.parent, s.name = 0, ""
		return s
	}
	is, beneath := strings.CutPrefix(f.linked(n.fd), strings.TrimSuffix(root, "/")+"/")
	if beneath && len(is) <= maxPath && is != n.path() {
		s.path = is
	}
	return s
}

// linked is the path of a descriptor as the kernel tells it.
func (f *folder) linked(fd int) string {
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(f.proc, reference(fd), buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// path is where n is beneath the root, for all we know.
func (n *node) path() string {
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// saveChanged notes the ctime of a file that has no time of birth to know it by. If it is not there, it is gone.
func (f *folder) saveChanged(s *savedNode) {
	if s.key.born != 0 || s.parent == 0 {
		return
	}
	n, err := f.nodes.get(s.id)
	if err == nil {
		var st unix.Statx_t
		if st, err = f.nodes.stat(n); err == nil {
			s.changed = st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec)
		}
	}
	if err != nil {
		s.parent, s.name, s.path = 0, "", ""
	}
}
