package acpi

import "encoding/binary"

// resources is a resource template: descriptors in a Buffer, closed by an end tag (ACPI 6.5 §6.4).
func resources(descriptors ...[]byte) aml {
	var b []byte
	for _, d := range descriptors {
		b = append(b, d...)
	}
	// End tag, §6.4.2.9. A checksum of zero says that there is none.
	return buffer(append(b, 0x79, 0))
}

// memory32Fixed is a range of addresses below 4 GiB that may be written (§6.4.3.4).
func memory32Fixed(base, size uint32) []byte {
	b := []byte{0x86, 9, 0, 1}
	b = binary.LittleEndian.AppendUint32(b, base)
	return binary.LittleEndian.AppendUint32(b, size)
}

// edgeInterrupt is an extended interrupt that the device consumes: edge, active high, not shared (§6.4.3.6).
func edgeInterrupt(gsi uint32) []byte {
	const consumer, edge = 1 << 0, 1 << 1
	return binary.LittleEndian.AppendUint32([]byte{0x89, 6, 0, consumer | edge, 1}, gsi)
}

// ioPorts is a range of ports, with all sixteen address lines decoded (§6.4.2.5).
func ioPorts(base uint16, count uint8) []byte {
	b := []byte{0x47, 1}
	b = binary.LittleEndian.AppendUint16(b, base) // the lowest and
	b = binary.LittleEndian.AppendUint16(b, base) // the highest that it may be moved to
	return append(b, 1, count)
}
