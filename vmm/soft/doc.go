// Package soft runs machines in QEMU's software emulation (TCG). It needs nothing of the host but QEMU and runs everywhere, about ten times
// slower than the host's own processor.
//
// QEMU gets its disks, its sockets and the kernel as descriptors, not as paths; it runs in its own seccomp sandbox, and
// as nobody when the program is root. It dies with the process that started it. The guest has no network device: two sockets lead out of QEMU, for
// the link and for the console, and one leads in, for its control (QMP).
//
// A snapshot is QEMU's migration to a file, during which the machine rests; it is restored by the same version of QEMU only. Disks that are written are
// reached by a server in this process (package disk/nbd), which puts the new tops on while the machine rests.
//
// Two faults of QEMU before 8.1 kill guest kernels under TCG, so this backend avoids what they need, whatever the version:
//
//   - cmpxchg16b sets the wrong flags (before 8.0): the guest is told that the processor has none, by clearcpuid=cx16.
//   - Code that the kernel patches while other processors run it is run from a stale translation (before 8.1): the kernel boots on one processor,
//     maxcpus=1, and patches itself alone. capsid.cpus=N tells the guest's init how many there are; it starts
//     the others by writing 1 to /sys/devices/system/cpu/cpuN/online.
package soft
