// Package kvm is the backend for /dev/kvm: a small VMM of our own.
//
// Each machine is a process of its own (Main), which the Backend starts with everything open that it needs and one socket. On that socket go small messages, one
// a packet, some with a descriptor: each stream of the guest's vsock is, on this side, a real socket. The guest's processors and devices are
// in that process (package board); this side only starts it, hands streams on and says why it ended.
package kvm
