package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Readv fills buffers with what is at off, and says how many bytes it read: all, if there is no error; but with atOnce it stops without one where it would
// have to wait. It uses v up. A run of blocks that one layer has is read straight into the buffers.
func (s *Stack) Readv(v [][]byte, off int64, atOnce bool) (int, error) {
	n, err := s.check(v, off)
	if err != nil {
		return 0, err
	}
	return readLayers(*s.layers.Load(), v, off, n, atOnce)
}

// Writev is Readv's counterpart.
func (s *Stack) Writev(v [][]byte, off int64, atOnce bool) (int, error) {
	n, err := s.check(v, off)
	if err != nil {
		return 0, err
	}
	if s.readOnly {
		return 0, ErrReadOnly
	}
	if !atOnce {
		s.mu.RLock()
	} else if !s.mu.TryRLock() {
		return 0, nil
	}
	defer s.mu.RUnlock()
	layers := *s.layers.Load()
	top := layers[len(layers)-1]
	done := 0
	for done < n {
		at, has, part := off+int64(done), true, n-done
		if top.blocks != nil {
			var stop int64
			has, stop = top.blocks.run(at/BlockSize, blocksOf(off+int64(n)))
			part = int(min(stop*BlockSize, off+int64(n)) - at)
		}
		var m int
		switch {
		case has:
			m, err = moveAll(top.write, &v, at, part, atOnce)
		case atOnce:
			return done, nil
		default:
			m, err = s.add(layers, &v, at, part)
		}
		done += m
		if err == errWait {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// ReadAt is that of io.ReaderAt, for disks that end where they end.
func (s *Stack) ReadAt(p []byte, off int64) (int, error) { return s.Readv([][]byte{p}, off, false) }

// WriteAt is that of io.WriterAt.
func (s *Stack) WriteAt(p []byte, off int64) (int, error) { return s.Writev([][]byte{p}, off, false) }

func (s *Stack) check(v [][]byte, off int64) (int, error) {
	n := 0
	for _, b := range v {
		n += len(b)
	}
	return n, s.inside(off, int64(n))
}

func (s *Stack) inside(off, n int64) error {
	if off < 0 || n < 0 || off > s.size || n > s.size-off {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrRange, n, off, s.size)
	}
	return nil
}

func readLayers(layers []*layer, v [][]byte, off int64, n int, atOnce bool) (int, error) {
	done := 0
	for done < n {
		at := off + int64(done)
		l, stop := owner(layers, at/BlockSize, blocksOf(off+int64(n)))
		m, err := moveAll(l.read, &v, at, int(min(stop*BlockSize, off+int64(n))-at), atOnce)
		done += m
		if err == errWait {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// owner is the uppermost layer that has block b, and where that ends; at most end.
func owner(layers []*layer, b, end int64) (*layer, int64) {
	for i := len(layers) - 1; i > 0; i-- {
		has, stop := layers[i].blocks.run(b, end)
		end = stop
		if has {
			return layers[i], end
		}
	}
	return layers[0], end
}

// add writes n bytes of v to blocks that the top did not have at a moment ago.
func (s *Stack) add(layers []*layer, v *[][]byte, off int64, n int) (int, error) {
	s.fill.Lock()
	defer s.fill.Unlock()
	top, below := layers[len(layers)-1], layers[:len(layers)-1]
	has, stop := top.blocks.run(off/BlockSize, blocksOf(off+int64(n)))
	n = int(min(stop*BlockSize, off+int64(n)) - off)
	if has { // another write has added it
		return moveAll(top.write, v, off, n, false)
	}
	// What is written of the first and the last block is completed by what is below.
	from := off / BlockSize * BlockSize
	end := min(blocksOf(off+int64(n))*BlockSize, s.size)
	head, tail := make([]byte, off-from), make([]byte, end-off-int64(n))
	for _, p := range []struct {
		b  []byte
		at int64
	}{{head, from}, {tail, off + int64(n)}} {
		if _, err := readLayers(below, [][]byte{p.b}, p.at, len(p.b), false); err != nil {
			return 0, err
		}
	}
	written, err := top.addBlocks(whole(head, cut(v, n), tail), from, int(end-from))
	return int(max(0, min(int64(written)-int64(len(head)), int64(n)))), err
}

// whole is the buffers of one write, few enough for the kernel to take them as one.
func whole(head []byte, v [][]byte, tail []byte) [][]byte {
	if len(v)+2 > maxVectors {
		var all []byte
		for _, b := range v {
			all = append(all, b...)
		}
		v = [][]byte{all}
	}
	list := make([][]byte, 0, len(v)+2)
	for _, b := range append(append(append(list, head), v...), tail) {
		if len(b) > 0 {
			list = append(list, b)
		}
	}
	return list
}

// addBlocks writes whole blocks that the layer has not. When it fails, the layer has those blocks that were written as a whole, and no part of another.
func (l *layer) addBlocks(v [][]byte, off int64, n int) (int, error) {
	done, err := moveAll(l.write, &v, off, n, false)
	end := (off + int64(done)) / BlockSize * BlockSize
	if err == nil {
		end = blocksOf(off+int64(n)) * BlockSize
	} else if part := off + int64(done) - end; part > 0 {
		// The kernel stops within a block when the memory that it copies from is gone, or with a disk that is full.
		done -= int(part)
		if e := l.allocate(unix.FALLOC_FL_PUNCH_HOLE, end, BlockSize); e != nil {
			return done, fmt.Errorf("%w; and a block was written in part: %w", err, e)
		}
	}
	l.blocks.set(off/BlockSize, end/BlockSize)
	return done, err
}

// moveAll moves n bytes, and takes those that were moved from v.
func moveAll(call func([][]byte, int64, bool) (int, error), v *[][]byte, off int64, n int, atOnce bool) (int, error) {
	for done := 0; ; {
		*v = skip(*v, 0)
		if done == n {
			return done, nil
		}
		// The last buffer may be for another layer in part.
		count, left := 0, n-done
		for left > len((*v)[count]) {
			left -= len((*v)[count])
			count++
		}
		last := (*v)[count]
		(*v)[count] = last[:left]
		m, err := call((*v)[:count+1], off+int64(done), atOnce)
		(*v)[count] = last
		*v = skip(*v, m)
		done += m
		if err != nil {
			return done, err
		}
	}
}

// skip drops the first n bytes of buffers, in place.
func skip(v [][]byte, n int) [][]byte {
	for len(v) > 0 && n >= len(v[0]) {
		n -= len(v[0])
		v = v[1:]
	}
	if len(v) > 0 {
		v[0] = v[0][n:]
	}
	return v
}

// cut takes the first n bytes of buffers away from v and returns them.
func cut(v *[][]byte, n int) [][]byte {
	var out [][]byte
	for n > 0 {
		*v = skip(*v, 0)
		b := (*v)[0]
		b = b[:min(n, len(b))]
		out, n = append(out, b), n-len(b)
		*v = skip(*v, len(b))
	}
	return out
}
