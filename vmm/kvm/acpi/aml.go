package acpi

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// aml is encoded ACPI Machine Language (ACPI 6.5 §20.2): one term, or several one after the other.
type aml []byte

// Opcodes, ACPI 6.5 §20.3 (table 20.2).
const (
	opZero       = 0x00
	opOne        = 0x01
	opName       = 0x08
	opByte       = 0x0a
	opWord       = 0x0b
	opDWord      = 0x0c
	opString     = 0x0d
	opQWord      = 0x0e
	opScope      = 0x10
	opBuffer     = 0x11
	opPackage    = 0x12
	opMethod     = 0x14
	opDualName   = 0x2e
	opMultiName  = 0x2f
	opExtended   = 0x5b
	opNotify     = 0x86
	opReturn     = 0xa4
	extDevice    = 0x82
	maxPkgLength = 1<<28 - 1
)

// pkgLength is the length that stands before a body of n bytes: 1–4 bytes, which count themselves (§20.2.4). A body of more than 256 MiB cannot be
// told of; tables that must fit below 1 MiB never have one.
func pkgLength(n int) aml {
	if n+1 < 1<<6 {
		return aml{byte(n + 1)}
	}
	for more := 1; more <= 3; more++ {
		// The first byte has the count of those that follow in bits 7–6 and the low four bits of the length; each other has eight more.
		if total := n + 1 + more; total < 1<<(4+8*more) {
			b := aml{byte(more<<6 | total&0xf)}
			for total >>= 4; more > 0; more, total = more-1, total>>8 {
				b = append(b, byte(total))
			}
			return b
		}
	}
	panic(fmt.Sprintf("acpi: a term of %d bytes; at most %d", n, maxPkgLength-4))
}

// block is an opcode whose body has its length before it.
func block(op aml, body ...aml) aml {
	b := slices.Concat(body...)
	return slices.Concat(op, pkgLength(len(b)), b)
}

// path encodes a NameString (§20.2.2): segments of up to four characters, with dots between them, from the root when there is a backslash before.
// All names are this package's own, so one that cannot be encoded is a fault of the program.
func path(name string) aml {
	var b aml
	rest, fromRoot := strings.CutPrefix(name, `\`)
	if fromRoot {
		b = append(b, '\\')
	}
	segments := strings.Split(rest, ".")
	switch len(segments) {
	case 1:
	case 2:
		b = append(b, opDualName)
	default:
		b = append(b, opMultiName, byte(len(segments)))
	}
	for _, s := range segments {
		if !validSegment(s) || len(segments) > 255 {
			panic(fmt.Sprintf("acpi: %q is no name", name))
		}
		b = append(b, (s + "___")[:4]...)
	}
	return b
}

func validSegment(s string) bool {
	for i, c := range s {
		letter := c == '_' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if !letter && (i == 0 || !digit) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 4
}

// integer takes the shortest of the encodings of §20.2.3.
func integer(v uint64) aml {
	switch {
	case v == 0:
		return aml{opZero}
	case v == 1:
		return aml{opOne}
	case v < 1<<8:
		return aml{opByte, byte(v)}
	case v < 1<<16:
		return binary.LittleEndian.AppendUint16(aml{opWord}, uint16(v))
	case v < 1<<32:
		return binary.LittleEndian.AppendUint32(aml{opDWord}, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(aml{opQWord}, v)
}

// text is a String: ASCII with a zero at its end (§20.2.3).
func text(s string) aml { return append(append(aml{opString}, s...), 0) }

// buffer is a Buffer of these bytes (§20.2.5.4).
func buffer(b []byte) aml { return block(aml{opBuffer}, integer(uint64(len(b))), b) }

// pack is a Package of at most 255 elements (§20.2.5.4).
func pack(elements ...aml) aml {
	return block(aml{opPackage}, append([]aml{{byte(len(elements))}}, elements...)...)
}

// name declares an object (§20.2.5.1).
func name(of string, value aml) aml { return slices.Concat(aml{opName}, path(of), value) }

// scope opens a name that exists (§20.2.5.1).
func scope(of string, terms ...aml) aml {
	return block(aml{opScope}, append([]aml{path(of)}, terms...)...)
}

// device declares a device (§20.2.5.2).
func device(of string, terms ...aml) aml {
	return block(aml{opExtended, extDevice}, append([]aml{path(of)}, terms...)...)
}

// method declares a control method that is never run twice at once, with up to seven arguments (§20.2.5.2: MethodFlags).
func method(of string, args int, terms ...aml) aml {
	const serialized = 1 << 3
	return block(aml{opMethod}, append([]aml{path(of), {byte(args&7 | serialized)}}, terms...)...)
}

// result returns a value from a method (§20.2.5.3).
func result(value aml) aml { return append(aml{opReturn}, value...) }

// notify tells the driver of a device of an event (§20.2.5.3).
func notify(device string, event uint64) aml {
	return slices.Concat(aml{opNotify}, path(device), integer(event))
}

// eisaID compresses an identifier of three capitals and four hexadecimal digits to an integer (§19.3.4: EISAID).
func eisaID(id string) aml {
	var product uint16
	if _, err := fmt.Sscanf(id[3:], "%04X", &product); err != nil || len(id) != 7 {
		panic(fmt.Sprintf("acpi: %q is no EISA identifier", id))
	}
	vendor := uint16(id[0]-'@')<<10 | uint16(id[1]-'@')<<5 | uint16(id[2]-'@')
	b := binary.BigEndian.AppendUint16(nil, vendor)
	b = binary.BigEndian.AppendUint16(b, product)
	return append(aml{opDWord}, b...)
}
