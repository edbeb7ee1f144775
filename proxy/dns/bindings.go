package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Binding is a name and the synthetic address that stands for it.
type Binding struct {
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr"`
}

// Bindings returns what is bound, by address, for Restore of another table: a machine that goes on from a snapshot has the addresses in its memory.
func (t *Table) Bindings() []Binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Binding, 0, len(t.byName))
	for addr, e := range t.byAddr {
		list = append(list, Binding{e.Value.(*binding).name, addr})
	}
	slices.SortFunc(list, func(a, b Binding) int { return a.Addr.Compare(b.Addr) })
	return list
}

// maxName is the longest name of a host in text (RFC 1035, section 2.3.4).
const maxName = 253

// Restore binds what another table had, in a table that is empty. It refuses all of a list that no table can have had.
func (t *Table) Restore(list []Binding) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byName) > 0 {
		return fmt.Errorf("the table has %d names already", len(t.byName))
	}
	if len(list) > t.limit {
		return fmt.Errorf("%d names, more than %d", len(list), t.limit)
	}
	names, addrs := map[string]bool{}, map[netip.Addr]bool{}
	for _, b := range list {
		switch {
		case b.Name == "" || len(b.Name) > maxName || strings.ContainsFunc(b.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
			return fmt.Errorf("%.300q is no name", b.Name)
		case !Range.Contains(b.Addr) || b.Addr.Less(offset(reserved)) || b.Addr == offset(rangeSize-1):
			return fmt.Errorf("%v is no synthetic address", b.Addr)
		case names[b.Name] || addrs[b.Addr]:
			return fmt.Errorf("%s or %v is bound twice", b.Name, b.Addr)
		}
		names[b.Name], addrs[b.Addr] = true, true
	}
	for _, b := range list {
		e := t.idle.PushBack(&binding{name: b.Name, addr: b.Addr})
		t.byName[b.Name], t.byAddr[b.Addr] = e, e
	}
	return nil
}
