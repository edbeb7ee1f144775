package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Requests and their status (§5.2.6).
const (
	blockIn            = 0
	blockOut           = 1
	blockFlushRequest  = 4
	blockGetID         = 8
	blockDiscardRanges = 11
	blockZeroRanges    = 13

	blockOK          = 0
	blockIOError     = 1
	blockUnsupported = 2

	blockHeaderSize = 16
	blockRangeSize  = 16
	blockUnmap      = 1 // the flag of a range
	// blockQuickBytes is how much is copied from or to the page cache at once; the workers do more side by side.
	blockQuickBytes = 64 << 10
)

// errRefused: the request is answered with an I/O error; it is not the disk's.
var errRefused = errors.New("request refused")

// blockRequest is a request in the works.
type blockRequest struct {
	chain  Chain
	kind   uint32
	data   [][]byte // what is still to be read or written
	off    int64    // where in the file, bytes
	answer []byte   // where the status goes, one byte
	status byte
	room   uint32 // bytes that the device may write, the status among them
}

// blockRange is a part of the disk to discard or zero.
type blockRange struct {
	off, len int64 // bytes
	unmap    bool
}

// parse reads the header. What has no room for one or for a status is no request.
func (b *blockRun) parse(r *blockRequest) error {
	var h [blockHeaderSize]byte
	c := &r.chain
	if Gather(h[:], c.Readable, 0) < len(h) || len(c.Writable) == 0 {
		return fmt.Errorf("%w: a block request of %d and %d bytes", ErrRing, Len(c.Readable), Len(c.Writable))
	}
	r.room = uint32(Len(c.Writable))
	last := &c.Writable[len(c.Writable)-1]
	r.answer = (*last)[len(*last)-1:]
	*last = (*last)[:len(*last)-1]
	readable := skip(c.Readable, len(h))

	r.kind, r.status, r.data = binary.LittleEndian.Uint32(h[:]), blockOK, nil
	switch r.kind {
	case blockIn:
		r.data = c.Writable
	case blockOut, blockDiscardRanges, blockZeroRanges:
		r.data = readable
		if b.readOnly {
			r.status = blockIOError
		}
	}
	if n := Len(r.data); r.kind == blockIn || r.kind == blockOut {
		sector := binary.LittleEndian.Uint64(h[8:])
		if n%sectorSize != 0 || n > blockMaxBytes || sector > b.sectors || uint64(n/sectorSize) > b.sectors-sector {
			r.status = blockIOError
		}
		r.off = int64(sector) * sectorSize // it does not wrap: the file's size is of the same type
	}
	return nil
}

// quick serves a request at once if that cannot block, and says whether it did.
func (b *blockRun) quick(r *blockRequest) bool {
	if r.status != blockOK {
		return true
	}
	switch r.kind {
	case blockIn, blockOut:
		if r.kind == blockOut && b.through || Len(r.data) > blockQuickBytes {
			return false
		}
		done, err := b.transfer(r, true)
		if err != nil {
			r.status = blockIOError
		}
		return done || err != nil
	case blockGetID:
		var id [blockSerialSize]byte // padded with zeroes
		copy(id[:], b.serial)
		Scatter(r.chain.Writable, id[:], 0)
		return true
	case blockFlushRequest:
		return b.readOnly
	case blockDiscardRanges, blockZeroRanges:
		return false
	}
	r.status = blockUnsupported
	return true
}

// slow serves what quick did not, or not to its end.
func (b *blockRun) slow(r *blockRequest) {
	var err error
	switch r.kind {
	case blockIn, blockOut:
		_, err = b.transfer(r, false)
	case blockFlushRequest:
		err = b.disk.Sync()
	case blockDiscardRanges, blockZeroRanges:
		err = b.ranges(r)
	}
	if err == nil && b.through && (r.kind == blockOut || r.kind == blockZeroRanges) {
		err = b.disk.Sync()
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		r.status = blockUnsupported
	case err != nil:
		r.status = blockIOError
	}
}

// transfer moves the data of a read or a write, straight between the disk and guest memory, and says whether all is done. With atOnce it stops where it
// would have to wait, and goes on there when it is called again.
func (b *blockRun) transfer(r *blockRequest, atOnce bool) (bool, error) {
	move := b.disk.Readv
	if r.kind == blockOut {
		move = b.disk.Writev
	}
	left := Len(r.data)
	n, err := move(r.data, r.off, atOnce)
	if r.off += int64(n); n == left || err != nil {
		return err == nil, err
	}
	r.data = skip(r.data, n)
	return false, nil
}

// ranges discards or zeroes all ranges of a request, or none if one of them is wrong.
func (b *blockRun) ranges(r *blockRequest) error {
	var data [blockRanges * blockRangeSize]byte
	n := Len(r.data)
	if n == 0 || n%blockRangeSize != 0 || n > len(data) {
		return errRefused
	}
	Gather(data[:n], r.data, 0)
	var list [blockRanges]blockRange
	count, zero, limit := n/blockRangeSize, r.kind == blockZeroRanges, uint32(blockRangeSectors)
	if zero {
		limit = blockZeroSectors
		if count > 1 {
			return errRefused
		}
	}
	for i := range list[:count] {
		p := data[i*blockRangeSize:]
		sector, sectors, flags := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint32(p[8:]), binary.LittleEndian.Uint32(p[12:])
		if flags&^blockUnmap != 0 || flags != 0 && !zero { // §5.2.6.2
			return errors.ErrUnsupported
		}
		if sectors > limit || sector > b.sectors || uint64(sectors) > b.sectors-sector {
			return errRefused
		}
		list[i] = blockRange{int64(sector) * sectorSize, int64(sectors) * sectorSize, flags&blockUnmap != 0}
	}
	for _, p := range list[:count] {
		var err error
		switch {
		case zero:
			err = b.disk.Zero(p.off, p.len, p.unmap)
		default:
			err = b.disk.Discard(p.off, p.len)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// skip drops the first n bytes of buffers, in place.
func skip(buffers [][]byte, n int) [][]byte {
	for len(buffers) > 0 && n >= len(buffers[0]) {
		n -= len(buffers[0])
		buffers = buffers[1:]
	}
	if len(buffers) > 0 {
		buffers[0] = buffers[0][n:]
	}
	return buffers
}
