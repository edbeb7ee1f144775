//go:build linux

package egress

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// nameTime is how long a connection waits for its process's name. It goes on without one.
	nameTime = 300 * time.Millisecond
	maxName  = 64
	// agentPID is not looked through: in the machine it is this process, with the other ends of all these connections.
	agentPID = 1
	// guesses is how many descriptors are tried in vain, and maxMissed how many more at most.
	guesses   = 64
	maxMissed = 512
	// searchTime is what a search may take without a rest after it.
	searchTime = 20 * time.Millisecond
	// searchLimit ends one: others wait, and a process with so many descriptors is better found by guessing.
	searchLimit = 100 * time.Millisecond
)

// names finds out which process a connection belongs to. It is a hint for people: a program may call itself anything. One goroutine looks
// through the processes for all connections that wait at that moment, so a thousand of them cost little more than one.
type names struct {
	asked  chan question
	done   chan struct{}
	diag   socketDiag
	noDiag bool
	recent []owner   // who connected lately
	missed int       // not found since one was found
	rest   time.Time // until when not to search
}

// owner is a process, and the number of its socket that was found last.
type owner struct{ pid, fd int }

// pair is a connection, as the process that made it sees it.
type pair struct{ src, dst netip.AddrPort }

type question struct {
	pair   pair
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
	timer := time.NewTimer(nameTime)
	defer timer.Stop()
	q := question{pair{unmap(src), unmap(dst)}, make(chan string, 1)}
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

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// inodes finds the sockets of connections. The kernel is asked for each, which costs the same however many there are; a kernel that
// cannot say is asked no more, and its table of all sockets is read instead.
func (n *names) inodes(wanted map[pair]bool) map[pair]string {
	found := make(map[pair]string, len(wanted))
	if !n.noDiag {
		for p := range wanted {
			if inode := n.diag.inode(p); inode != 0 {
				found[p] = strconv.FormatUint(uint64(inode), 10)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	for _, f := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if table, err := os.ReadFile(f); err == nil {
			findInodes(table, wanted, found)
		}
	}
	n.noDiag = n.noDiag || len(found) > 0
	return found
}

// findInodes finds sockets in the format of /proc/net/tcp and tcp6: "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode".
func findInodes(table []byte, wanted map[pair]bool, found map[pair]string) {
	for line := range bytes.Lines(table) {
		f := bytes.Fields(line)
		if len(f) < 10 {
			continue
		}
		local, ok1 := parseHexAddr(string(f[1]))
		remote, ok2 := parseHexAddr(string(f[2]))
		if p := (pair{local, remote}); ok1 && ok2 && wanted[p] {
			found[p] = string(f[9])
		}
	}
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
	defer n.diag.close()
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

// answer looks for the owners of all sockets that are waited for: first where the last ones were found, then everywhere. Looking
// everywhere is limited to a fifth of the time when it is slow, as a program with thousands of connections makes it.
func (n *names) answer(waiting []question) {
	pairs := make(map[pair]bool, len(waiting))
	for _, q := range waiting {
		pairs[q.pair] = true
	}
	inodes := n.inodes(pairs)
	wanted := make(map[string][]question, len(waiting))
	for _, q := range waiting {
		if inode, ok := inodes[q.pair]; ok {
			wanted["socket:["+inode+"]"] = append(wanted["socket:["+inode+"]"], q)
		} else {
			q.answer <- ""
		}
	}
	n.guess(wanted)
	if start := time.Now(); len(wanted) > 0 && start.After(n.rest) {
		n.search(wanted)
		if took := time.Since(start); took > searchTime {
			n.rest = time.Now().Add(4 * took)
		}
	}
	for _, qs := range wanted {
		n.missed += len(qs)
		for _, q := range qs {
			q.answer <- ""
		}
	}
}

// guess tries the descriptors that come next in the processes that connected lately: the kernel gives the lowest free number. It goes on while
// that finds some, and over as many more as were given up since.
func (n *names) guess(wanted map[string][]question) {
	for _, o := range slices.Clone(n.recent) {
		end := o.fd + guesses + min(4*n.missed, maxMissed)
		for fd := max(0, o.fd-guesses); fd < end && len(wanted) > 0; fd++ {
			if n.try(o.pid, strconv.Itoa(fd), wanted) {
				end = max(end, fd+guesses)
			}
		}
	}
}

// search looks through all processes.
func (n *names) search(wanted map[string][]question) {
	until := time.Now().Add(searchLimit)
	for _, pid := range list("/proc") {
		if pid == strconv.Itoa(agentPID) {
			continue
		}
		number, err := strconv.Atoi(pid)
		if err != nil {
			continue
		}
		for _, fd := range list(filepath.Join("/proc", pid, "fd")) {
			n.try(number, fd, wanted)
			if len(wanted) == 0 || time.Now().After(until) {
				return
			}
		}
	}
}

// try answers those that wait for the socket that a descriptor is, if it is one.
func (n *names) try(pid int, fd string, wanted map[string][]question) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	target, err := os.Readlink(filepath.Join(dir, "fd", fd))
	if err != nil {
		return false
	}
	qs, ok := wanted[target]
	if !ok {
		return false
	}
	delete(wanted, target)
	n.missed = 0
	name := processName(dir)
	for _, q := range qs {
		q.answer <- name
	}
	recent := []owner{{pid, 0}}
	recent[0].fd, _ = strconv.Atoi(fd)
	for _, o := range n.recent {
		if o.pid != pid && len(recent) < 8 {
			recent = append(recent, o)
		}
	}
	n.recent = recent
	return true
}

func list(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
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
