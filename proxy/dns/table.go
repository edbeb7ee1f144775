package dns

import (
	"container/list"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
)

// Range is where synthetic addresses come from. Its first 256 are not given out: guests use them for themselves.
var Range = netip.MustParsePrefix("198.18.0.0/15")

const (
	reserved  = 256
	rangeSize = 1 << 17
	// DefaultNames is how many names a table holds unless it is told otherwise. It is half of the range, so that an address that
	// is taken from one name rests for at least 65,000 others before it stands for a second.
	DefaultNames = 1 << 16
)

// ErrFull: every name of the table is in use by a connection.
var ErrFull = errors.New("all synthetic addresses are in use")

// Table binds names to synthetic addresses. When it is full, the name that was unused for longest goes; a name with an
// open connection never does. Its methods may be called at the same time.
type Table struct {
	limit int

	mu     sync.Mutex
	next   uint32                   // offset into Range that is tried next
	byName map[string]*list.Element // of *binding
	byAddr map[netip.Addr]*list.Element
	idle   list.List // bindings without connections, least recently used first
	busy   list.List // the others, in no order
}

type binding struct {
	name string
	addr netip.Addr
	refs int
}

// NewTable makes a table for at most limit names; 0 means DefaultNames.
func NewTable(limit int) *Table {
	if limit <= 0 || limit > DefaultNames {
		limit = DefaultNames
	}
	return &Table{limit: limit, next: reserved, byName: map[string]*list.Element{}, byAddr: map[netip.Addr]*list.Element{}}
}

// Bind returns the address of a name (in the form of policy.Canonical), the same as long as the name is in the table.
func (t *Table) Bind(name string) (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byName[name]; e != nil {
		b := e.Value.(*binding)
		if b.refs == 0 {
			t.idle.MoveToBack(e)
		}
		return b.addr, nil
	}
	if len(t.byName) >= t.limit {
		oldest := t.idle.Front()
		if oldest == nil {
			return netip.Addr{}, ErrFull
		}
		b := oldest.Value.(*binding)
		delete(t.byName, b.name)
		delete(t.byAddr, b.addr)
		t.idle.Remove(oldest)
	}
	var addr netip.Addr
	for {
		addr = offset(t.next)
		if t.next++; t.next >= rangeSize-1 { // the last is left out as well: it looks like a broadcast address
			t.next = reserved
		}
		if t.byAddr[addr] == nil { // ends: the range is twice as large as the table
			break
		}
	}
	e := t.idle.PushBack(&binding{name: name, addr: addr})
	t.byName[name], t.byAddr[addr] = e, e
	return addr, nil
}

func offset(n uint32) netip.Addr {
	base := Range.Addr().As4()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])+n)
	return netip.AddrFrom4(b)
}

// Has reports whether a name is bound.
func (t *Table) Has(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byName[name] != nil
}

// Name returns what an address stands for.
func (t *Table) Name(addr netip.Addr) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byAddr[addr.Unmap()]
	if e == nil {
		return "", false
	}
	return e.Value.(*binding).name, true
}

// Hold is Name for a connection: the binding stays until release is called, once.
func (t *Table) Hold(addr netip.Addr) (name string, release func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byAddr[addr.Unmap()]
	if e == nil {
		return "", nil, false
	}
	b := e.Value.(*binding)
	if b.refs++; b.refs == 1 {
		t.idle.Remove(e)
		e = t.busy.PushBack(b)
		t.byName[b.name], t.byAddr[b.addr] = e, e
	}
	var once sync.Once
	return b.name, func() { once.Do(func() { t.release(b) }) }, true
}

func (t *Table) release(b *binding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b.refs--; b.refs == 0 {
		t.busy.Remove(t.byName[b.name])
		e := t.idle.PushBack(b)
		t.byName[b.name], t.byAddr[b.addr] = e, e
	}
}

// Len is how many names are bound.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byName)
}
