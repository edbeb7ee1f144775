package disk

import (
	"math/bits"
	"sync/atomic"
)

// BlockSize is the unit of a layer, in bytes.
const BlockSize = 4096

// chunkBlocks is how many blocks a piece of a bitmap covers: 128 MiB of the disk in a page of memory.
const chunkBlocks = 1 << 15

type chunk [chunkBlocks / 64]atomic.Uint64

// bitmap says which blocks a layer has. Parts of the disk of which it has none take no memory. Its methods may be called side by side.
type bitmap struct{ chunks []atomic.Pointer[chunk] }

func newBitmap(blocks int64) *bitmap {
	return &bitmap{make([]atomic.Pointer[chunk], (blocks+chunkBlocks-1)/chunkBlocks)}
}

// run says whether the layer has block b, and where what is so ends; at most end.
func (m *bitmap) run(b, end int64) (has bool, stop int64) {
	first := true
	for b < end {
		c := m.chunks[b/chunkBlocks].Load()
		last := min(end, (b/chunkBlocks+1)*chunkBlocks)
		if c == nil {
			if first {
				has, first = false, false
			}
			if has {
				return has, b
			}
			b = last
			continue
		}
		for b < last {
			word := c[b%chunkBlocks/64].Load() >> (b % 64)
			if first {
				has, first = word&1 != 0, false
			}
			if has {
				word = ^word
			}
			n := int64(bits.TrailingZeros64(word)) // the zeros that the shift brought in are no end
			if left := 64 - b%64; n < left {
				return has, min(b+n, end)
			} else {
				b += left
			}
		}
	}
	return has, end
}

// set notes that the layer has the blocks from b to end; unset that it has not.
func (m *bitmap) set(b, end int64) {
	m.words(b, end, func(at int64, mask uint64) {
		p := &m.chunks[at/chunkBlocks]
		if p.Load() == nil {
			p.CompareAndSwap(nil, new(chunk))
		}
		p.Load()[at%chunkBlocks/64].Or(mask)
	})
}

func (m *bitmap) unset(b, end int64) {
	m.words(b, end, func(at int64, mask uint64) {
		if c := m.chunks[at/chunkBlocks].Load(); c != nil {
			c[at%chunkBlocks/64].And(^mask)
		}
	})
}

// words calls f for each word of the range, with the bits that are in it.
func (m *bitmap) words(b, end int64, f func(at int64, mask uint64)) {
	for b < end {
		stop := min(end, (b/64+1)*64)
		f(b, ^uint64(0)>>(64-(stop-b))<<(b%64))
		b = stop
	}
}

// blocksOf is how many blocks n bytes take.
func blocksOf(n int64) int64 { return (n + BlockSize - 1) / BlockSize }
