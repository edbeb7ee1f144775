package board

import (
	"slices"
	"strings"
)

// commonParameters are the kernel's on every processor. What is left out of a start saves its time; what guards against faults of real
// processors, or of a kernel against its own programs, is off: the wall is around the machine.
var commonParameters = []string{
	"console=hvc0", "quiet",
	"panic=-1",
	"nowatchdog", "rcupdate.rcu_cpu_stall_suppress=1",
	"mitigations=off", "init_on_alloc=0", "hardened_usercopy=off", "randomize_kstack_offset=off", "audit=0",
	"cryptomgr.notests", "rcupdate.rcu_expedited=1",
	"random.trust_cpu=on",
}

// cmdline is the whole of the kernel's parameters: later ones win.
func cmdline(extra string) string {
	return strings.Join(slices.Concat(commonParameters, parameters, []string{extra}), " ")
}
