// Package fdt writes flattened device trees, by which arm64 kernels are told of their machine: version 17 of the format, Devicetree Specification v0.4,
// chapter 5. Section numbers are of that document. Everything in a tree is big-endian.
//
// A tree is put together by methods of Tree and Node, which return no errors; Bytes does, for the first thing that cannot be encoded.
package fdt

import "encoding/binary"

// Tree is a device tree.
type Tree struct {
	Root     *Node
	BootCPU  uint32        // the "reg" of the processor that starts
	Reserved []Reservation // memory that the kernel may not use, beyond what nodes of /reserved-memory say

	handles uint32
}

// Reservation is a range of memory, in bytes (§5.3).
type Reservation struct{ Address, Size uint64 }

// Node is a device or what holds devices.
type Node struct {
	name       string
	handle     uint32
	properties []property
	children   []*Node
}

type property struct {
	name  string
	value []byte
}

// New is a tree with an empty root.
func New() *Tree { return &Tree{Root: &Node{}} }

// Node adds a child. Its name has the unit address behind an "@" where the node has a "reg" (§2.2.1).
func (n *Node) Node(name string) *Node {
	child := &Node{name: name}
	n.children = append(n.children, child)
	return child
}

// Flag adds a property without a value: that it is there says all.
func (n *Node) Flag(name string) { n.Raw(name, nil) }

// Raw adds a property of bytes.
func (n *Node) Raw(name string, value []byte) {
	n.properties = append(n.properties, property{name, value})
}

// U32 adds a property of cells of 32 bits.
func (n *Node) U32(name string, values ...uint32) {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	n.Raw(name, b)
}

// U64 adds a property of values of two cells each, the higher first, such as addresses and sizes have them where #address-cells and #size-cells are 2.
func (n *Node) U64(name string, values ...uint64) {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	n.Raw(name, b)
}

// Text adds a property of strings, each with a zero at its end. No string may have one in it.
func (n *Node) Text(name string, values ...string) {
	var b []byte
	for _, v := range values {
		b = append(append(b, v...), 0)
	}
	n.Raw(name, b)
}

// Handle is the number by which other nodes point to n; it gets one when it has none yet (§2.3.3: phandle).
func (t *Tree) Handle(n *Node) uint32 {
	if n.handle == 0 {
		t.handles++
		n.handle = t.handles
		n.U32("phandle", n.handle)
	}
	return n.handle
}
