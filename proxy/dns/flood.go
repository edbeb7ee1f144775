package dns

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"capsid/proxy/ledger"
)

// What makes a name that is not allowed look like data rather than a host. Nothing of it would leave either way; the
// refusal is there so that a person sees the try, and so that made-up names do not push others out of the table.
const (
	longLabel   = 45  // hexadecimal digests and encoded bytes; hosts of content networks stay below
	longName    = 140 // bytes
	floodNames  = 64  // new names below one registrable domain …
	floodWindow = time.Minute
	floodTables = 4096 // domains watched at once
)

type floods struct {
	mu      sync.Mutex
	domains map[string]*flood
}

type flood struct {
	since time.Time
	names int
}

// suspect is asked about each new name that is not allowed; it says why it should be refused, or "".
func (f *floods) suspect(host string, now time.Time) string {
	if len(host) >= longName {
		return fmt.Sprintf("a name of %d bytes looks like data that leaves in questions", len(host))
	}
	for l := range strings.SplitSeq(host, ".") {
		if len(l) >= longLabel {
			return fmt.Sprintf("a label of %d bytes looks like data that leaves in questions", len(l))
		}
	}
	domain := ledger.Domain(host)
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.domains[domain]
	if d == nil || now.Sub(d.since) > floodWindow {
		if f.domains == nil || len(f.domains) >= floodTables {
			f.domains = map[string]*flood{}
		}
		d = &flood{since: now}
		f.domains[domain] = d
	}
	if d.names++; d.names > floodNames {
		return fmt.Sprintf("more than %d different names below %s within a minute look like data that leaves in questions", floodNames, domain)
	}
	return ""
}
