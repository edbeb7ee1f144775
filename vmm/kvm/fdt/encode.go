package fdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	magic          = 0xd00dfeed
	version        = 17
	lastCompatible = 16
	headerSize     = 40

	// Tokens of the structure block, §5.4.1.
	tokenBegin    = 1
	tokenEnd      = 2
	tokenProperty = 3
	tokenLast     = 9

	// maxSize is what an arm64 kernel takes (Linux's Documentation/arch/arm64/booting.rst: two megabytes).
	maxSize = 2 << 20
	// maxDepth is Linux's (drivers/of/fdt.c: FDT_MAX_DEPTH).
	maxDepth = 64
	// maxName bounds the name of a property, and that of a node before its unit address (§2.2.1, §2.2.4).
	maxName = 31
)

// ErrTree: the tree cannot be encoded. The error names the node.
var ErrTree = errors.New("device tree")

type encoder struct {
	structure []byte
	strings   []byte
}

// Bytes encodes the tree. It is to lie at a multiple of 8 in memory (§5.6).
func (t *Tree) Bytes() ([]byte, error) {
	e := &encoder{}
	if t.Root.name != "" {
		return nil, fmt.Errorf("%w: the root is not the root", ErrTree)
	}
	if err := e.node(t.Root, "", 1); err != nil {
		return nil, err
	}
	e.token(tokenLast)

	reservations := headerSize // a multiple of 8
	structure := reservations + 16*(len(t.Reserved)+1)
	names := structure + len(e.structure)
	size := names + len(e.strings)
	if size > maxSize {
		return nil, fmt.Errorf("%w: %d bytes; at most %d", ErrTree, size, maxSize)
	}
	b := make([]byte, 0, size)
	for _, v := range []int{magic, size, structure, names, reservations, version, lastCompatible, int(t.BootCPU), len(e.strings), len(e.structure)} {
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	for _, r := range append(t.Reserved[:len(t.Reserved):len(t.Reserved)], Reservation{}) { // an empty one is the last
		b = binary.BigEndian.AppendUint64(b, r.Address)
		b = binary.BigEndian.AppendUint64(b, r.Size)
	}
	return append(append(b, e.structure...), e.strings...), nil
}

func (e *encoder) token(values ...uint32) {
	for _, v := range values {
		e.structure = binary.BigEndian.AppendUint32(e.structure, v)
	}
}

// padded appends bytes, and zeros up to the next token.
func (e *encoder) padded(b []byte) {
	e.structure = append(e.structure, b...)
	for len(e.structure)%4 != 0 {
		e.structure = append(e.structure, 0)
	}
}

// node encodes a node (§5.4.2): its properties come before its children.
func (e *encoder) node(n *Node, path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: %s: more than %d nodes deep", ErrTree, path, maxDepth)
	}
	e.token(tokenBegin)
	e.padded(append([]byte(n.name), 0))
	seen := map[string]bool{}
	for _, p := range n.properties {
		if !validName(p.name, "#?") || len(p.name) > maxName || seen[p.name] {
			return fmt.Errorf("%w: %s/: property %q, or a second of that name", ErrTree, path, p.name)
		}
		if len(p.value) > maxSize || len(e.structure) > maxSize {
			return fmt.Errorf("%w: %s/%s: the tree is larger than %d bytes", ErrTree, path, p.name, maxSize)
		}
		seen[p.name] = true
		e.token(tokenProperty, uint32(len(p.value)), e.name(p.name))
		e.padded(p.value)
	}
	seen = map[string]bool{}
	for _, c := range n.children {
		base, unit, hasUnit := strings.Cut(c.name, "@")
		if !validName(base, "") || len(base) > maxName || hasUnit && !validName(unit, "") || seen[c.name] {
			return fmt.Errorf("%w: %s/: node %q, or a second of that name", ErrTree, path, c.name)
		}
		seen[c.name] = true
		if err := e.node(c, path+"/"+c.name, depth+1); err != nil {
			return err
		}
	}
	e.token(tokenEnd)
	return nil
}

// name is where a property's name stands in the strings block (§5.5): once, or as the end of a longer one.
func (e *encoder) name(s string) uint32 {
	terminated := append([]byte(s), 0)
	at := bytes.Index(e.strings, terminated)
	if at < 0 {
		at = len(e.strings)
		e.strings = append(e.strings, terminated...)
	}
	return uint32(at)
}

// validName: the characters of tables 2.1 and 2.2, to which properties add more.
func validName(s, more string) bool {
	for _, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune(",._+-"+more, c) {
			return false
		}
	}
	return s != ""
}
