package share

import "encoding/binary"

// bare is a request as the kernel would send it.
func bare(opcode uint32, unique, node uint64, rest []byte) []byte {
	b := make([]byte, headerIn, headerIn+len(rest))
	binary.NativeEndian.PutUint32(b, uint32(headerIn+len(rest)))
	binary.NativeEndian.PutUint32(b[4:], opcode)
	binary.NativeEndian.PutUint64(b[8:], unique)
	binary.NativeEndian.PutUint64(b[16:], node)
	return append(b, rest...)
}
