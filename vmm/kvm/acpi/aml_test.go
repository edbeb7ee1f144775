package acpi

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestPkgLength(t *testing.T) {
	for _, test := range []struct {
		body int
		want string
	}{
		{0, "01"},
		{62, "3f"},
		{63, "4104"},
		{4093, "4fff"},
		{4094, "810001"},
		{1<<20 - 4, "8fffff"},
		{1<<20 - 3, "c1000001"},
		{1<<28 - 5, "cfffffff"},
	} {
		if got := hex.EncodeToString(pkgLength(test.body)); got != test.want {
			t.Errorf("%d bytes: %s, want %s", test.body, got, test.want)
		}
	}
}

// decodeLength reads a PkgLength back, by the description in §20.2.4.
func decodeLength(b []byte) (length, size int) {
	size = int(b[0]>>6) + 1
	if size == 1 {
		return int(b[0] & 0x3f), 1
	}
	length = int(b[0] & 0xf)
	for i, c := range b[1:size] {
		length |= int(c) << (4 + 8*i)
	}
	return length, size
}

func FuzzPkgLength(f *testing.F) {
	f.Add(0)
	f.Add(1 << 20)
	f.Fuzz(func(t *testing.T, body int) {
		if body < 0 || body > maxPkgLength-4 {
			return
		}
		b := pkgLength(body)
		length, size := decodeLength(b)
		if size != len(b) || length != body+size {
			t.Errorf("%d bytes: % x tells of %d in %d", body, b, length, size)
		}
	})
}

func TestTerms(t *testing.T) {
	for _, test := range []struct {
		name string
		got  aml
		want string
	}{
		{"zero", integer(0), "00"},
		{"one", integer(1), "01"},
		{"byte", integer(0xff), "0aff"},
		{"word", integer(0x100), "0b0001"},
		{"dword", integer(0xd0000000), "0c000000d0"},
		{"qword", integer(1 << 32), "0e0000000001000000"},
		{"string", text("ab"), "0d616200"},
		{"buffer", buffer([]byte{1, 2}), "11050a020102"},
		{"package", pack(integer(5), integer(0)), "1205020a0500"},
		{"padded name", path("A"), "415f5f5f"},
		{"root name", path(`\_SB`), "5c5f53425f"},
		{"dual name", path(`\_SB.GED`), "5c2e5f53425f4745445f"},
		{"multi name", path("A.B.C"), "2f03415f5f5f425f5f5f435f5f5f"},
		{"declaration", name("_UID", integer(1)), "085f55494401"},
		{"scope", scope("_SB", integer(0)), "10065f53425f00"},
		{"device", device("DEV"), "5b82054445565f"},
		{"method", method("_EVT", 1, result(integer(1))), "14085f45565409a401"},
		{"notify", notify("DEV", 0x80), "864445565f0a80"},
		{"EISA identifier", eisaID("PNP0501"), "0c41d00501"},
		{"no descriptor", resources(), "11050a027900"},
		{"memory", memory32Fixed(0xd0000000, 0x200), "86090001000000d000020000"},
		{"interrupt", edgeInterrupt(5), "890600030105000000"},
		{"ports", ioPorts(0x3f8, 8), "4701f803f8030108"},
	} {
		want, err := hex.DecodeString(test.want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(test.got, want) {
			t.Errorf("%s: %x, want %x", test.name, []byte(test.got), want)
		}
	}
}

func TestNoName(t *testing.T) {
	for _, bad := range []string{"", "abc", "1AB", "TOOLONG", "A..B"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was encoded", bad)
				}
			}()
			path(bad)
		}()
	}
}
