package share

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// check refuses a state that no share can be in: a folder that is its own ancestor, two nodes for one file, a name that is a path. What a well-shaped state claims
// is not believed either: each file is looked for beneath the root, and must be the one that it was.
func (s *state) check() error {
	m := message{bytes: s.began}
	if len(s.began) < headerIn || binary.NativeEndian.Uint32(s.began) != uint32(len(s.began)) {
		return errState
	}
	if m = parse(s.began); m.opcode != opInit {
		return errState
	}
	if _, errno := m.check(); errno != 0 {
		return fmt.Errorf("%w: INIT: %w", errState, errno)
	}
	at := make(map[uint64]int, len(s.nodes)+1)
	at[rootID] = -1
	for i, n := range s.nodes {
		at[n.id] = i
	}
	keys := make(map[identity]bool, len(s.nodes)+1)
	keys[s.root] = true
	for _, n := range s.nodes {
		if err := s.checkNode(n, at); err != nil {
			return err
		}
		if n.parent == 0 {
			continue
		}
		if keys[n.key] {
			return fmt.Errorf("%w: node %d is a file that another node is", errState, n.id)
		}
		keys[n.key] = true
	}
	if !s.rooted(at) {
		return fmt.Errorf("%w: folders go in circles", errState)
	}
	for _, h := range s.handles {
		i, found := at[h.node]
		switch {
		case !found || h.id > s.lastHandle || h.access == unix.O_ACCMODE:
		case h.dir && (i < 0 || s.nodes[i].key.kind == unix.S_IFDIR) && h.access == unix.O_RDONLY:
			continue
		case !h.dir && i >= 0 && s.nodes[i].key.kind == unix.S_IFREG:
			continue
		}
		return fmt.Errorf("%w: handle %d", errState, h.id)
	}
	for _, r := range s.replies {
		if r.unique == 0 || len(r.reply) < headerOut || binary.NativeEndian.Uint32(r.reply) != uint32(len(r.reply)) || binary.NativeEndian.Uint64(r.reply[8:]) != r.unique {
			return fmt.Errorf("%w: a reply", errState)
		}
	}
	return nil
}

func (s *state) checkNode(n savedNode, at map[uint64]int) error {
	bad := fmt.Errorf("%w: node %d", errState, n.id)
	if n.id == rootID || n.id > s.lastNode {
		return bad
	}
	if n.path != "" {
		for name := range strings.SplitSeq(n.path, "/") {
			if checkName([]byte(name)) != 0 {
				return bad
			}
		}
	}
	if n.parent == 0 {
		if n.name != "" || n.path != "" {
			return bad
		}
		return nil
	}
	parent, found := at[n.parent]
	if !found || parent >= 0 && s.nodes[parent].key.kind != unix.S_IFDIR || checkName([]byte(n.name)) != 0 {
		return bad
	}
	return nil
}

// rooted reports whether the way up from every node ends.
func (s *state) rooted(at map[uint64]int) bool {
	const (
		unknown = iota
		underway
		good
	)
	seen := make([]uint8, len(s.nodes))
	for i := range s.nodes {
		var way []int
		for n := i; n >= 0 && seen[n] != good; {
			if seen[n] == underway {
				return false
			}
			seen[n] = underway
			way = append(way, n)
			if s.nodes[n].parent == 0 {
				break
			}
			n = at[s.nodes[n].parent]
		}
		for _, n := range way {
			seen[n] = good
		}
	}
	return true
}
