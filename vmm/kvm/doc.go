// Package kvm is the backend for /dev/kvm: a small VMM of our own.
//
// Each machine is a process of its own (Main), which the Backend starts with everything open that it needs and one socket. On that socket go small messages, one
// a packet, some with descriptors: each stream of the guest's vsock is, on this side, a real socket. The guest's processors and devices are
// in that process (package board); this side only starts it, hands streams on and says why it ended.
//
// # Where the time of a start goes
//
// Of a session with one processor and 1 GiB in the KVM lab (capsid-lab), where the processor is emulated and everything takes some twenty times as long as on
// a real one; the parts count, not the sum. The guest's own steps are in a session's supervisor.log ("guest", steps).
//
//	process, memory, tables, vmlinux and initramfs copied into memory    1.7 s   12 %
//	kernel, to its first process                                         6.7 s   47 %
//	agent: modules of virtio, file systems, vsock                        2.0 s   14 %
//	agent: mounts, root, link                                            0.5 s    4 %
//	host dials, SSH begins                                               0.7 s    5 %
//	set-up: user, certificates, folder, network                          2.6 s   18 %
//
// What is left out of it already: unpacking (the ELF file is entered by its PVH note), firmware, PCI, the i8042, a UART's driver, self-tests of ciphers, and the
// compression of modules. What cannot be had from a stock kernel: drivers that are built in instead of modules (virtio_mmio, virtio_blk, vsock, erofs, overlay), and
// a start without the initcalls of what a machine of this kind never has. A restored machine skips all of it.
package kvm
