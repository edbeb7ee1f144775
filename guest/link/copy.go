package link

import (
	"io"
	"sync"
)

// copyBuffers are for ReadFrom, which io.Copy uses: each frame costs an emulated guest the same, however long it is.
var copyBuffers = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// ReadFrom writes what it reads from r, to its end, in frames as long as they may be.
func (c *stream) ReadFrom(r io.Reader) (int64, error) { return copyFrames(c, r) }

func copyFrames(w io.Writer, r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[maxFrame]byte)
	defer copyBuffers.Put(buf)
	var total int64
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			n, werr := w.Write(buf[:n])
			total += int64(n)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
