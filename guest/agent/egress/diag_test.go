//go:build linux

package egress

import (
	"fmt"
	"net"
	"os"
	"testing"
)

func TestSocketDiag(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// An end that nobody has accepted belongs to no process.
		other, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		var d socketDiag
		defer d.close()
		p := pair{unmap(c.LocalAddr().(*net.TCPAddr).AddrPort()), unmap(c.RemoteAddr().(*net.TCPAddr).AddrPort())}
		inode := d.inode(p)
		if inode == 0 {
			t.Skip("this kernel does not tell of single sockets")
		}
		if got := fmt.Sprintf("socket:[%d]", inode); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
		if got := d.inode(pair{p.dst, p.src}); got == inode || got == 0 {
			t.Errorf("%s: the other end is %d", addr, got)
		}
		if got := d.inode(pair{p.src, p.src}); got != 0 {
			t.Errorf("%s: found %d for what is not there", addr, got)
		}
	}
}
