//go:build linux

package egress

import (
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestDatagramSize(t *testing.T) {
	for _, c := range []struct {
		edns uint16
		want int
	}{{0, 512}, {100, 512}, {1232, 1232}, {65535, 4096}} {
		if got := datagramSize(question4(t, "a.example.", c.edns)); got != c.want {
			t.Errorf("EDNS %d: got %d, want %d", c.edns, got, c.want)
		}
	}
	if got := datagramSize([]byte("no DNS message")); got != 512 {
		t.Errorf("garbage: got %d", got)
	}
}

func FuzzBrief(f *testing.F) {
	f.Add(question4(f, "a.example.", 0), 512)
	f.Add(question4(f, "b.example.", 1232), 20)
	f.Fuzz(func(t *testing.T, msg []byte, size int) {
		if n := datagramSize(msg); n < 512 || n > 4096 {
			t.Errorf("datagram size %d", n)
		}
		for _, b := range [][]byte{failure(msg), fit(msg, size)} {
			if b == nil {
				continue
			}
			var p dnsmessage.Parser
			if _, err := p.Start(b); err != nil && len(b) != len(msg) {
				t.Errorf("made what cannot be read: %v", err)
			}
		}
	})
}

func TestFindInode(t *testing.T) {
	const four = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0000000000000000 100 0 0 10 0
   1: 020200C0:D431 22D8B85D:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1
`
	const six = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF0000020200C0:D432 0000000000000000FFFF000022D8B85D:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1
   1: 1D95CAFD000000000000000002000000:D433 B80D0120000000000000000007000000:20FB 01 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0 20 4 30 10 -1
`
	for _, c := range []struct{ table, src, dst, want string }{
		{four, "192.0.2.2:54321", "93.184.216.34:443", "4711"},
		{four, "192.0.2.2:54322", "93.184.216.34:443", ""},
		{six, "192.0.2.2:54322", "93.184.216.34:443", "4712"},
		{six, "[fdca:951d::2]:54323", "[2001:db8::7]:8443", "4713"},
		{"garbage\n" + six, "192.0.2.2:1", "93.184.216.34:443", ""},
	} {
		p := pair{netip.MustParseAddrPort(c.src), netip.MustParseAddrPort(c.dst)}
		found := make(map[pair]string)
		findInodes([]byte(c.table), map[pair]bool{p: true}, found)
		if got := found[p]; got != c.want {
			t.Errorf("%s → %s: got %q, want %q", c.src, c.dst, got, c.want)
		}
	}
}
