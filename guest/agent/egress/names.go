//go:build linux

package egress

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// nameTime is how long a connection waits for its process's name. It goes on without one.
	nameTime = 300 * time.Millisecond
	maxName  = 64
)

// names finds out which process a connection belongs to. It is a hint for people: a program may call itself anything. One goroutine looks
// through the processes for all connections that wait at that moment, so a thousand of them cost little more than one.
type names struct {
	asked  chan question
	done   chan struct{}
	recent []int // processes that connected lately, to look at first
}

type question struct {
	inode  string
	answer chan string
}

func newNames() *names {
	n := &names{asked: make(chan question, 1024), done: make(chan struct{})}
	go n.run()
	return n
}

func (n *names) close() { close(n.done) }

// lookup is the process's name ("comm"), "" when it is not found in time.
func (n *names) lookup(src, dst netip.AddrPort) string {
	inode := socketInode(src, dst)
	if inode == "" {
		return ""
	}
	timer := time.NewTimer(nameTime)
	defer timer.Stop()
	q := question{inode: inode, answer: make(chan string, 1)}
	select {
	case n.asked <- q:
	case <-timer.C:
		return ""
	case <-n.done:
		return ""
	}
	select {
	case name := <-q.answer:
		return name
	case <-timer.C:
		return ""
	case <-n.done:
		return ""
	}
}

// socketInode asks the kernel for one socket (sock_diag), which costs the same however many there are.
func socketInode(src, dst netip.AddrPort) string {
	s, err := netlink.SocketGet(net.TCPAddrFromAddrPort(src), net.TCPAddrFromAddrPort(dst))
	if err == nil && s.INode != 0 {
		return strconv.FormatUint(uint64(s.INode), 10)
	}
	for _, f := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(f)
		if err == nil {
			if inode := findInode(table, src, dst); inode != "" {
				return inode
			}
		}
	}
	return ""
}

// findInode finds a socket in the format of /proc/net/tcp and tcp6: "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode".
func findInode(table []byte, src, dst netip.AddrPort) string {
	for line := range bytes.Lines(table) {
		f := bytes.Fields(line)
		if len(f) < 10 {
			continue
		}
		local, ok1 := parseHexAddr(string(f[1]))
		remote, ok2 := parseHexAddr(string(f[2]))
		if ok1 && ok2 && local == netip.AddrPortFrom(src.Addr().Unmap(), src.Port()) && remote == netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port()) {
			return string(f[9])
		}
	}
	return ""
}

// parseHexAddr reads "0100007F:0035": the address as words of the machine's byte order (little-endian), the port as a number.
func parseHexAddr(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, false
	}
	var b []byte
	for i := 0; i < len(host); i += 8 {
		w, err := strconv.ParseUint(host[i:i+8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}

func (n *names) run() {
	for {
		select {
		case <-n.done:
			return
		case q := <-n.asked:
			waiting := []question{q}
			for more := true; more; {
				select {
				case q := <-n.asked:
					waiting = append(waiting, q)
				default:
					more = false
				}
			}
			n.answer(waiting)
		}
	}
}

// answer looks for the owners of all sockets that are waited for.
func (n *names) answer(waiting []question) {
	wanted := make(map[string][]question, len(waiting))
	for _, q := range waiting {
		wanted["socket:["+q.inode+"]"] = append(wanted["socket:["+q.inode+"]"], q)
	}
	look := func(pid int) {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		fds, err := os.Open(filepath.Join(dir, "fd"))
		if err != nil {
			return
		}
		defer fds.Close()
		list, _ := fds.Readdirnames(-1)
		for _, fd := range list {
			target, err := os.Readlink(filepath.Join(dir, "fd", fd))
			if err != nil {
				continue
			}
			qs, ok := wanted[target]
			if !ok {
				continue
			}
			name := processName(dir)
			for _, q := range qs {
				q.answer <- name
			}
			delete(wanted, target)
			n.remember(pid)
			if len(wanted) == 0 {
				return
			}
		}
	}
	for _, pid := range append([]int(nil), n.recent...) {
		if len(wanted) == 0 {
			return
		}
		look(pid)
	}
	proc, err := os.Open("/proc")
	if err == nil {
		defer proc.Close()
		list, _ := proc.Readdirnames(-1)
		for _, name := range list {
			if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() && len(wanted) > 0 {
				look(pid)
			}
		}
	}
	for _, qs := range wanted {
		for _, q := range qs {
			q.answer <- ""
		}
	}
}

func (n *names) remember(pid int) {
	list := []int{pid}
	for _, p := range n.recent {
		if p != pid && len(list) < 16 {
			list = append(list, p)
		}
	}
	n.recent = list
}

func processName(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return ""
	}
	name := strings.TrimSpace(string(b))
	if len(name) > maxName {
		name = name[:maxName]
	}
	return name
}
