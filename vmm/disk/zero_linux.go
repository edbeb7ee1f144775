package disk

import "golang.org/x/sys/unix"

// Discard gives a range back to the host where that brings back nothing old; what is there then is zeros, and elsewhere what was there. That a file system
// cannot is no error: it was only said that the range is needed no more.
func (s *Stack) Discard(off, n int64) error {
	if err := s.change(off, n); err != nil || n == 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	layers := *s.layers.Load()
	top := layers[len(layers)-1]
	if top.blocks == nil {
		return able(top.allocate(unix.FALLOC_FL_PUNCH_HOLE, off, n))
	}
	first, end := s.wholeBlocks(off, n)
	for b := first; b < end; {
		here, below, stop, err := presence(layers, b, end, s.size)
		if err != nil {
			return err
		}
		if here && !below {
			if err := top.remove(unix.FALLOC_FL_PUNCH_HOLE, b, stop); err != nil {
				return able(err)
			}
		}
		b = stop
	}
	return nil
}

// Zero makes a range read as zeros, by the cheapest way there is. With unmap the host may have the space.
func (s *Stack) Zero(off, n int64, unmap bool) error {
	if err := s.change(off, n); err != nil || n == 0 {
		return err
	}
	first, end := s.wholeBlocks(off, n)
	if s.Layers() == 1 || first >= end {
		if done, err := s.zeroPlain(off, n, unmap); done || err != nil {
			return err
		}
	}
	if first >= end {
		return s.writeZeros(off, n)
	}
	from, to := first*BlockSize, min(end*BlockSize, s.size)
	if err := s.writeZeros(off, from-off); err != nil {
		return err
	}
	for b := first; b < end; {
		stop, write, err := s.zeroRun(b, end, unmap)
		if err != nil {
			return err
		}
		if write {
			if err := s.writeZeros(b*BlockSize, min(stop*BlockSize, s.size)-b*BlockSize); err != nil {
				return err
			}
		}
		b = stop
	}
	return s.writeZeros(to, off+n-to)
}

// zeroPlain zeroes a range of a disk that is a file alone, and says whether it was one.
func (s *Stack) zeroPlain(off, n int64, unmap bool) (bool, error) {
	s.mu.Lock()
	layers := *s.layers.Load()
	if len(layers) > 1 {
		s.mu.Unlock()
		return false, nil
	}
	var err error
	for _, mode := range zeroModes(unmap) {
		if err = layers[0].allocate(mode, off, n); err == nil || !cannot(err) {
			break
		}
	}
	s.mu.Unlock()
	if err != nil && cannot(err) {
		err = s.writeZeros(off, n)
	}
	return true, err
}

func zeroModes(unmap bool) []uint32 {
	if unmap {
		return []uint32{unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE}
	}
	return []uint32{unix.FALLOC_FL_ZERO_RANGE}
}

// zeroRun zeroes blocks from b on that are alike, without writing, and says where they end and whether they have to be written instead.
func (s *Stack) zeroRun(b, end int64, unmap bool) (stop int64, write bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	layers := *s.layers.Load()
	here, below, stop, err := presence(layers, b, end, s.size)
	if err != nil || below || !here {
		return stop, below, err
	}
	for _, mode := range zeroModes(unmap) {
		if err = layers[len(layers)-1].remove(mode, b, stop); err == nil || !cannot(err) {
			return stop, false, err
		}
	}
	return stop, true, nil
}

// remove makes a hole of blocks below which there is nothing: written or not, they read as zeros then.
func (l *layer) remove(mode uint32, b, end int64) error {
	if err := l.allocate(mode, b*BlockSize, (end-b)*BlockSize); err != nil {
		return err
	}
	l.blocks.unset(b, end)
	return nil
}

// presence says whether the top has block b, whether one below it has, and where what is so ends; at most end.
func presence(layers []*layer, b, end, size int64) (here, below bool, stop int64, err error) {
	here, end = layers[len(layers)-1].blocks.run(b, end)
	for i := len(layers) - 2; i > 0; i-- {
		has, stop := layers[i].blocks.run(b, end)
		if end = stop; has {
			return here, true, end, nil
		}
	}
	// The bottom does not change any more.
	limit := min(end*BlockSize, size)
	from, to, err := layers[0].data(b*BlockSize, limit)
	switch {
	case err != nil:
		return here, true, end, err
	case from >= limit:
		return here, false, end, nil
	case from >= (b+1)*BlockSize:
		return here, false, from / BlockSize, nil
	}
	return here, true, min(end, blocksOf(to)), nil
}

// wholeBlocks is which blocks lie in a range as a whole; the last of the disk may be shorter.
func (s *Stack) wholeBlocks(off, n int64) (first, end int64) {
	end = (off + n) / BlockSize
	if off+n == s.size {
		end = blocksOf(s.size)
	}
	return blocksOf(off), end
}

// zeros are what is written from; they are never written to.
type zeros [64 << 10]byte

func (s *Stack) writeZeros(off, n int64) error {
	if n <= 0 {
		return nil
	}
	const pieces = 16
	z := new(zeros)
	for n > 0 {
		var v [][]byte
		part := int64(0)
		for len(v) < pieces && part < n {
			b := z[:min(n-part, int64(len(z)))]
			v, part = append(v, b), part+int64(len(b))
		}
		if _, err := s.Writev(v, off, false); err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}

func (s *Stack) change(off, n int64) error {
	if s.readOnly {
		return ErrReadOnly
	}
	return s.inside(off, n)
}

func able(err error) error {
	if err != nil && cannot(err) {
		return nil
	}
	return err
}
