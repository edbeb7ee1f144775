package virtio

// Chain is one request: a chain of descriptors, each of which was read once and lies in guest memory as a whole. The bytes are the guest's
// still and may change while they are read.
type Chain struct {
	Head     uint16
	Readable [][]byte // what the driver wrote, in order
	Writable [][]byte // what the device may write, in order
}

// Len is the number of bytes in buffers.
func Len(buffers [][]byte) int {
	n := 0
	for _, b := range buffers {
		n += len(b)
	}
	return n
}

// Gather copies from buffers, beginning at offset off, until p is full or they end, and returns how many bytes it copied.
func Gather(p []byte, buffers [][]byte, off int) int {
	n := 0
	for _, b := range buffers {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		n += copy(p[n:], b[off:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}

// Scatter copies p into buffers, beginning at offset off, until p or they end, and returns how many bytes it copied.
func Scatter(buffers [][]byte, p []byte, off int) int {
	n := 0
	for _, b := range buffers {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		n += copy(b[off:], p[n:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}

// Cut is the part of buffers from offset off on, n bytes or what is there of them.
func Cut(buffers [][]byte, off, n int) [][]byte {
	var out [][]byte
	for _, b := range buffers {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		b = b[off:]
		off = 0
		if len(b) > n {
			b = b[:n]
		}
		if n -= len(b); len(b) > 0 {
			out = append(out, b)
		}
		if n == 0 {
			break
		}
	}
	return out
}
