package dns

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestBindings(t *testing.T) {
	old := NewTable(0)
	want := map[string]netip.Addr{}
	for i := range 1000 {
		name := fmt.Sprintf("h%d.example.org", i)
		addr, err := old.Bind(name)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = addr
	}
	_, release, _ := old.Hold(want["h7.example.org"]) // one that is in use is saved as well
	defer release()
	table := NewTable(0)
	if err := table.Restore(old.Bindings()); err != nil {
		t.Fatal(err)
	}
	if err := table.Restore(nil); err == nil {
		t.Error("a table was restored twice")
	}
	for name, addr := range want {
		if got, ok := table.Name(addr); !ok || got != name {
			t.Errorf("%v stands for %q, not %q", addr, got, name)
		}
		if got, err := table.Bind(name); err != nil || got != addr {
			t.Errorf("%s is %v, not %v", name, got, addr)
		}
	}
	// What is bound next is nobody's.
	addr, err := table.Bind("new.example.org")
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := old.Name(addr); ok {
		t.Errorf("the new name got the address of %s", name)
	}
}

func TestRestoreRefuses(t *testing.T) {
	good := Binding{"a.example.org", netip.MustParseAddr("198.18.1.0")}
	for what, list := range map[string][]Binding{
		"no name":             {good, {"", netip.MustParseAddr("198.18.1.1")}},
		"a name with a blank": {good, {"a b", netip.MustParseAddr("198.18.1.1")}},
		"no address":          {good, {Name: "b.example.org"}},
		"a real address":      {good, {"b.example.org", netip.MustParseAddr("192.0.2.1")}},
		"a reserved address":  {good, {"b.example.org", netip.MustParseAddr("198.18.0.1")}},
		"the last address":    {good, {"b.example.org", netip.MustParseAddr("198.19.255.255")}},
		"the name twice":      {good, {good.Name, netip.MustParseAddr("198.18.1.1")}},
		"the address twice":   {good, {"b.example.org", good.Addr}},
		"an IPv6 form":        {good, {"b.example.org", netip.MustParseAddr("::ffff:198.18.1.1")}},
		"too many":            {good, {"b.example.org", netip.MustParseAddr("198.18.1.1")}, {"c.example.org", netip.MustParseAddr("198.18.1.2")}},
	} {
		table := NewTable(2)
		if err := table.Restore(list); err == nil || table.Len() != 0 {
			t.Errorf("%s: %v, %d names", what, err, table.Len())
		}
	}
}
