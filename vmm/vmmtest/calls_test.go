package vmmtest

import (
	"bytes"
	"errors"
	"testing"
)

// The suite's word on bytes that arrive is worth what this is.
func TestPattern(t *testing.T) {
	const n = 1_000_001
	var sent bytes.Buffer
	if err := newPattern().send(&sent, n); err != nil {
		t.Fatal(err)
	}
	if got, err := newPattern().receive(bytes.NewReader(sent.Bytes())); got != n || err != nil {
		t.Errorf("%d bytes, %v", got, err)
	}
	block := len(newPattern().block)
	for name, spoil := range map[string]func([]byte) []byte{
		"flipped bit":    func(b []byte) []byte { b[n/2] ^= 1; return b },
		"last byte":      func(b []byte) []byte { b[n-1] ^= 1; return b },
		"lost block":     func(b []byte) []byte { return append(b[:block:block], b[2*block:]...) },
		"repeated block": func(b []byte) []byte { copy(b[block:], b[:block]); return b },
	} {
		if _, err := newPattern().receive(bytes.NewReader(spoil(bytes.Clone(sent.Bytes())))); !errors.Is(err, errPattern) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
