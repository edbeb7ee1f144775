// Package nbd serves a disk by the NBD protocol (doc/proto.md of the nbd project), so that QEMU reaches the same stacks of layers as our own machines: the
// fixed newstyle handshake, simple replies, several requests in flight.
//
// The client is QEMU, with a hostile guest in it. Lengths are bounded before memory is taken, requests in flight are too, and a client that breaks the
// protocol is cut off.
package nbd
