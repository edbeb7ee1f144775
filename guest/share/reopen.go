package share

import (
	"golang.org/x/sys/unix"
)

// pin returns the descriptor of n, which stays open until release. If n has none it is opened from its place, and from the
// nearest ancestor that has one; whatever stands there now and is another file is ESTALE, which makes the guest look again.
func (t *nodes) pin(n *node) (int, error) {
	t.mu.Lock()
	chain := []*node{n}
	t.hold(n)
	for c := n; c.fd < 0; {
		if c = c.parent; c == nil {
			t.mu.Unlock()
			t.releaseAll(chain)
			return -1, unix.ESTALE
		}
		t.hold(c)
		chain = append(chain, c)
	}
	t.mu.Unlock()

	for i := len(chain) - 2; i >= 0; i-- {
		err := t.reopen(chain[i], chain[i+1])
		t.release(chain[i+1])
		if err != nil {
			t.releaseAll(chain[:i+1])
			return -1, err
		}
	}
	return n.fd, nil // held, so nobody changes it
}

func (t *nodes) releaseAll(chain []*node) {
	for _, n := range chain {
		t.release(n)
	}
}

// reopen gives n a descriptor by its place in parent. Both are held.
func (t *nodes) reopen(n, parent *node) error {
	t.mu.Lock()
	have, dir, name, stillThere := n.fd >= 0, parent.fd, n.name, n.parent == parent
	t.mu.Unlock()
	switch {
	case have:
		return nil
	case !stillThere:
		return unix.ESTALE
	}
	fd, err := openAt(dir, name)
	if err != nil {
		return stale(err)
	}
	st, err := statAt(fd, "")
	if err == nil && identify(&st) != n.key {
		err = unix.ESTALE
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	t.adopt(n, fd)
	return nil
}

// adopt takes over fd as the descriptor of n, which is held; if another came first that one stays.
func (t *nodes) adopt(n *node, fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.fd >= 0 {
		_ = unix.Close(fd)
		return
	}
	n.fd = fd
	t.open++
}

// stat looks at n: by its descriptor if it has one, else by its place, which costs no descriptor.
func (t *nodes) stat(n *node) (unix.Statx_t, error) {
	t.mu.Lock()
	parent, name := n.parent, n.name
	open := n.fd >= 0
	if open {
		t.hold(n)
	} else if parent != nil {
		t.hold(parent)
	}
	t.mu.Unlock()
	if open {
		defer t.release(n)
		return statAt(n.fd, "")
	}
	if parent == nil {
		return unix.Statx_t{}, unix.ESTALE
	}
	defer t.release(parent)
	dir, err := t.pin(parent)
	if err != nil {
		return unix.Statx_t{}, err
	}
	defer t.release(parent)
	st, err := statAt(dir, name)
	if err != nil {
		return st, stale(err)
	}
	if identify(&st) != n.key {
		return st, unix.ESTALE
	}
	return st, nil
}

// stale says of a file that is no longer where it was that the guest should look again.
func stale(err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV:
		return unix.ESTALE
	}
	return err
}
