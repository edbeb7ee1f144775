package share

import (
	"sync"

	"golang.org/x/sys/unix"
)

// rootID is the number that the kernel gives the root of every file system (FUSE_ROOT_ID).
const rootID = 1

// node is a file that the guest's kernel knows by number. Its fields belong to the table's lock.
type node struct {
	id      uint64
	key     identity
	lookups uint64 // how often the kernel was told of it and has not forgotten it

	// place is where the file was last seen: what a descriptor that was given up is opened by. parent is nil for the root alone.
	parent *node
	name   string
	kids   int // nodes whose parent this is

	fd         int // O_PATH, or -1
	users      int // who needs fd just now; it stays while there are any
	prev, next *node
	data       stamp // how the file's data looked when it was last opened
}

// nodes is the table of all nodes of one file system. Most have no descriptor: a name in an open folder is as good. Those that
// have one and are not in use wait in a list, the one that was used last in front, and lose it from the end.
type nodes struct {
	mu       sync.Mutex
	byID     map[uint64]*node
	byKey    map[identity]*node
	last     uint64 // the highest number given
	limit    int    // of nodes
	open     int    // nodes with a descriptor
	openMost int    // beyond which idle ones lose it
	idle     node   // head of the list
}

// newNodes makes a table whose root is the folder fd, which it takes over.
func newNodes(fd int, key identity, limit, openMost int) *nodes {
	t := &nodes{byID: map[uint64]*node{}, byKey: map[identity]*node{}, last: rootID, limit: limit, openMost: openMost}
	t.idle.prev, t.idle.next = &t.idle, &t.idle
	root := &node{id: rootID, key: key, lookups: 1, fd: fd, users: 1}
	t.open = 1
	t.byID[rootID], t.byKey[key] = root, root
	return t
}

// get finds a node by the number that the guest sent.
func (t *nodes) get(id uint64) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil {
		return nil, unix.ESTALE
	}
	return n, nil
}

// enter counts one more lookup of the file key, seen as name in parent, and makes its node if there is none. A node that
// nobody forgets stays, so there is a limit.
func (t *nodes) enter(parent *node, name string, key identity) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKey[key]
	if n == nil {
		if len(t.byID) >= t.limit {
			return nil, unix.ENFILE
		}
		t.last++
		n = &node{id: t.last, key: key, fd: -1}
		t.byID[n.id], t.byKey[key] = n, n
	}
	n.lookups++
	t.move(n, parent, name)
	return n, nil
}

// moved notes that the file key is now name in parent; a file that nobody asked for has no node and needs none.
func (t *nodes) moved(parent *node, name string, key identity) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byKey[key]; n != nil {
		t.move(n, parent, name)
	}
}

// move changes the place of a node. Two lookups that cross a rename on the host may tell of a folder inside itself: the first
// one stands then, or opening by place would go in circles.
func (t *nodes) move(n, parent *node, name string) {
	if n.id == rootID || n.parent == parent && n.name == name {
		return
	}
	if n.kids > 0 {
		for p := parent; p != nil; p = p.parent {
			if p == n {
				return
			}
		}
	}
	old := n.parent
	n.parent, n.name = parent, name
	if old != parent {
		parent.kids++
		if old != nil {
			old.kids--
			t.collect(old)
		}
	}
}

// forget takes back count lookups, as the kernel says, and never more than there were.
func (t *nodes) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil || id == rootID {
		return
	}
	n.lookups -= min(count, n.lookups)
	t.collect(n)
}

// collect drops a node that nobody knows or needs, and then perhaps its parent.
func (t *nodes) collect(n *node) {
	for n.id != rootID && n.lookups == 0 && n.kids == 0 && n.users == 0 {
		delete(t.byID, n.id)
		if t.byKey[n.key] == n {
			delete(t.byKey, n.key)
		}
		t.shut(n)
		parent := n.parent
		if parent == nil {
			return
		}
		n.parent = nil
		parent.kids--
		n = parent
	}
}

// shut closes the descriptor of a node that is not in use.
func (t *nodes) shut(n *node) {
	if n.fd < 0 {
		return
	}
	if n.next != nil {
		n.prev.next, n.next.prev = n.next, n.prev
		n.prev, n.next = nil, nil
	}
	_ = unix.Close(n.fd)
	n.fd = -1
	t.open--
}

// hold makes n stay, with its descriptor if it has one.
func (t *nodes) hold(n *node) {
	n.users++
	if n.next != nil {
		n.prev.next, n.next.prev = n.next, n.prev
		n.prev, n.next = nil, nil
	}
}

// release is the end of a hold.
func (t *nodes) release(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.users--
	if n.users > 0 {
		return
	}
	if n.fd >= 0 {
		first := t.idle.next
		n.prev, n.next = &t.idle, first
		t.idle.next, first.prev = n, n
	}
	t.collect(n)
	for t.open > t.openMost && t.idle.prev != &t.idle {
		t.shut(t.idle.prev)
	}
}

// closeAll ends the table. Nobody may use it any more.
func (t *nodes) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.byID {
		t.shut(n)
	}
	clear(t.byID)
	clear(t.byKey)
}
