package virtio

// ring is a buffer of bytes.
type ring struct {
	bytes      []byte
	start, len int
}

// put adds what buffers hold from offset off on. There must be room.
func (r *ring) put(buffers [][]byte, off int) {
	for _, b := range buffers {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		b = b[off:]
		off = 0
		end := (r.start + r.len) % len(r.bytes)
		n := copy(r.bytes[end:], b)
		copy(r.bytes, b[n:])
		r.len += len(b)
	}
}

// parts are the bytes, in order.
func (r *ring) parts() [][]byte {
	if end := r.start + r.len; end > len(r.bytes) {
		return [][]byte{r.bytes[r.start:], r.bytes[:end-len(r.bytes)]}
	}
	return [][]byte{r.bytes[r.start : r.start+r.len]}
}

// drop takes away the first n.
func (r *ring) drop(n int) {
	r.start = (r.start + n) % len(r.bytes)
	r.len -= n
}
