// Package agent is the first process of the guest: it makes a machine of a kernel and two disks, and then serves the host.
//
// Start: Main mounts what a Linux system needs, loads the modules that the initramfs carries, lays the writable disk over the
// read-only root and moves into it, opens the link and serves SSH on its control port. All the rest waits for the host's
// Setup call, which brings the clock, randomness, the user, certificates, files and folders; then the network is
// routed into the link, and what only the start needed is locked.
//
// Trust: the host trusts nothing that the agent says, and so nothing here enforces policy. Lockdown makes the guest a
// harder place for a stray program, no more. The other way round the agent trusts the host wholly, and no program of the guest:
// sizes and names that programs choose are bounded, since the end of the first process is the end of the machine.
//
// Ownership: terminals belong to the agent and live as long as their program; commands belong to their SSH channel.
package agent
