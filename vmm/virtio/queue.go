package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"
)

// ErrRing: a virtqueue that no correct driver makes. The device stops; the machine goes on.
var ErrRing = errors.New("malformed virtqueue")

// Flags of descriptors and rings (virtio 1.2 §2.7.5 to §2.7.8).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1

	descSize = 16
	usedSize = 8 // of an element
)

const (
	// MaxQueueSize bounds what a device offers. The specification's bound is 32768 (§2.7).
	MaxQueueSize = 1024
	// maxSegments bounds the descriptors of one request. §2.7.5.3.1 allows as many as the queue has; Linux makes longer indirect tables
	// where the device's own limits (virtio-blk's seg_max) let it.
	maxSegments = 1024
)

// QueueState is all there is to a virtqueue beside what lies in guest memory.
type QueueState struct {
	Size              uint16
	Desc, Avail, Used uint64 // guest-physical addresses
	Ready             bool
	NextAvail         uint16 // the ring index of the request to take next
	NextUsed          uint16 // the ring index of the request to return next
}

// Queue is a split virtqueue (virtio 1.2 §2.7) seen from the device. Pop and Rearm are for one goroutine at a time; Push and Signal may be called from many.
type Queue struct {
	mem      *Memory
	kick     *event
	raise    func()
	indirect bool
	eventIdx bool
	size     uint16
	state    QueueState // the addresses

	desc, avail, used []byte
	// flags|idx of both rings as one aligned word each: Go has no atomic access to 16 bits.
	availWord, usedWord *atomic.Uint32

	nextAvail uint16

	mu       sync.Mutex // the used ring
	nextUsed uint16
	signaled uint16 // nextUsed when the driver was last told
}

// newQueue checks what the driver set up. The rings must lie in RAM, be aligned and apart from each other.
func newQueue(mem *Memory, s QueueState, features uint64, kick *event, raise func()) (*Queue, error) {
	if s.Size == 0 || s.Size&(s.Size-1) != 0 || s.Size > MaxQueueSize {
		return nil, fmt.Errorf("%w: size %d", ErrRing, s.Size)
	}
	q := &Queue{
		mem: mem, kick: kick, raise: raise, size: s.Size, state: s,
		indirect: features&FeatureIndirect != 0, eventIdx: features&FeatureEventIdx != 0,
		nextAvail: s.NextAvail, nextUsed: s.NextUsed, signaled: s.NextUsed,
	}
	n := uint64(s.Size)
	parts := []struct {
		name    string
		at, len uint64
		align   uint64 // §2.7; the available ring by 4 instead of 2 for availWord. Linux has it behind the descriptors, which are a multiple of 16.
		to      *[]byte
	}{
		{"descriptor table", s.Desc, descSize * n, 16, &q.desc},
		{"available ring", s.Avail, 6 + 2*n, 4, &q.avail},
		{"used ring", s.Used, 6 + usedSize*n, 4, &q.used},
	}
	for i, p := range parts {
		if p.at%p.align != 0 {
			return nil, fmt.Errorf("%w: %s at %#x is not aligned by %d", ErrRing, p.name, p.at, p.align)
		}
		b, err := mem.Slice(p.at, p.len)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrRing, p.name, err)
		}
		*p.to = b
		for _, o := range parts[:i] {
			if p.at < o.at+o.len && o.at < p.at+p.len {
				return nil, fmt.Errorf("%w: %s overlaps the %s", ErrRing, p.name, o.name)
			}
		}
	}
	// Each begins a ring that Slice has found to be at least eight bytes of mapped memory, aligned by four as was checked for the guest's
	// address (RAM begins at a page boundary on both sides). An atomic word is four plain bytes of memory.
	q.availWord = (*atomic.Uint32)(unsafe.Pointer(&q.avail[0]))
	q.usedWord = (*atomic.Uint32)(unsafe.Pointer(&q.used[0]))
	if q.eventIdx {
		// The driver is to tell of its first request.
		q.setAvailEvent(q.nextAvail)
	}
	return q, nil
}

// Size is the number of descriptors.
func (q *Queue) Size() int { return int(q.size) }

// State is what brings the queue back. The device must have stopped.
func (q *Queue) State() QueueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.state
	s.NextAvail, s.NextUsed = q.nextAvail, q.nextUsed
	return s
}

// Pop takes the next request into c, whose slices it uses again. It returns false when there is none. An error is the driver's fault and
// lasts.
func (q *Queue) Pop(c *Chain) (bool, error) {
	idx := uint16(q.availWord.Load() >> 16)
	waiting := idx - q.nextAvail
	if waiting == 0 {
		return false, nil
	}
	q.mu.Lock()
	out := q.nextAvail - q.nextUsed
	q.mu.Unlock()
	// Each request takes a descriptor at least, until it is returned.
	if waiting > q.size || waiting+out > q.size {
		return false, fmt.Errorf("%w: %d requests wait and %d are being served in a ring of %d", ErrRing, waiting, out, q.size)
	}
	head := binary.LittleEndian.Uint16(q.avail[4+2*int(q.nextAvail&(q.size-1)):])
	c.Head, c.Readable, c.Writable = head, c.Readable[:0], c.Writable[:0]
	if err := q.walk(c); err != nil {
		return false, err
	}
	q.nextAvail++
	return true, nil
}

// Undo puts back the request that Pop took last: it is not possible to serve it yet. No other may have been taken since.
func (q *Queue) Undo() { q.nextAvail-- }

type descriptor struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

// read copies a descriptor once; all that is decided by it is decided by the copy.
func read(table []byte, i uint16) descriptor {
	var b [descSize]byte
	copy(b[:], table[int(i)*descSize:])
	return descriptor{
		addr: binary.LittleEndian.Uint64(b[0:]), len: binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint16(b[12:]), next: binary.LittleEndian.Uint16(b[14:]),
	}
}

// walk follows a chain from c.Head. Cycles end it by the bound on its length.
func (q *Queue) walk(c *Chain) error {
	table, entries := q.desc, int(q.size)
	at, inTable, total := c.Head, false, uint64(0)
	for n := 0; ; n++ {
		if int(at) >= entries {
			return fmt.Errorf("%w: descriptor %d of %d", ErrRing, at, entries)
		}
		if n >= entries || n >= maxSegments {
			return fmt.Errorf("%w: a chain of more than %d descriptors, or a cycle", ErrRing, n)
		}
		d := read(table, at)
		if d.flags&descIndirect != 0 {
			// §2.7.5.3.1: a table is not within a table, and not in the middle of a chain that goes on.
			if !q.indirect || inTable || d.flags&descNext != 0 || d.len == 0 || d.len%descSize != 0 || d.len/descSize > maxSegments {
				return fmt.Errorf("%w: indirect descriptor with flags %#x and length %d", ErrRing, d.flags, d.len)
			}
			b, err := q.mem.Slice(d.addr, uint64(d.len))
			if err != nil {
				return fmt.Errorf("%w: indirect table: %w", ErrRing, err)
			}
			table, entries, at, inTable, n = b, int(d.len/descSize), 0, true, -1
			continue
		}
		b, err := q.mem.Slice(d.addr, uint64(d.len))
		if err != nil {
			return fmt.Errorf("%w: buffer: %w", ErrRing, err)
		}
		if total += uint64(d.len); total > 1<<32-1 {
			return fmt.Errorf("%w: a request of 4 GiB or more", ErrRing)
		}
		switch {
		case d.flags&descWrite != 0:
			if len(b) > 0 {
				c.Writable = append(c.Writable, b)
			}
		case len(c.Writable) > 0:
			// §2.7.4.2: what the device reads comes first.
			return fmt.Errorf("%w: a readable buffer after a writable one", ErrRing)
		case len(b) > 0:
			c.Readable = append(c.Readable, b)
		}
		if d.flags&descNext == 0 {
			return nil
		}
		at = d.next
	}
}

// Push returns a request to the driver; written is how many bytes of its writable buffers hold something new. Signal tells the driver.
func (q *Queue) Push(head uint16, written uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.used[4+usedSize*int(q.nextUsed&(q.size-1)):]
	binary.LittleEndian.PutUint32(e, uint32(head))
	binary.LittleEndian.PutUint32(e[4:], written)
	q.nextUsed++
	// The flags, in the lower half, stay 0: the driver is to kick, or to go by the event index.
	q.usedWord.Store(uint32(q.nextUsed) << 16)
}

// Signal interrupts the driver if it wants to know of what was pushed since the last Signal (§2.7.7).
func (q *Queue) Signal() {
	q.mu.Lock()
	now, before := q.nextUsed, q.signaled
	q.signaled = now
	if now == before {
		q.mu.Unlock()
		return
	}
	// This load comes after the store of the used index in the order of all atomic operations, and what follows it comes later still; so
	// either we see the driver's wish or it sees our requests.
	flags := uint16(q.availWord.Load())
	var want bool
	if q.eventIdx {
		event := binary.LittleEndian.Uint16(q.avail[4+2*int(q.size):])
		want = now-event-1 < now-before
	} else {
		want = flags&availNoInterrupt == 0
	}
	q.mu.Unlock()
	if want {
		q.raise()
	}
}

// Rearm asks the driver to kick at its next request, and says whether one has come meanwhile: then Pop again first.
func (q *Queue) Rearm() bool {
	if q.eventIdx {
		q.setAvailEvent(q.nextAvail)
	}
	return uint16(q.availWord.Load()>>16) != q.nextAvail
}

func (q *Queue) setAvailEvent(at uint16) {
	binary.LittleEndian.PutUint16(q.used[4+usedSize*int(q.size):], at)
	// The store above is plain: an atomic one of ours before the load that follows keeps them in order on every processor.
	q.mu.Lock()
	q.usedWord.Store(uint32(q.nextUsed) << 16)
	q.mu.Unlock()
}

// Wait blocks until the driver kicks, or Wake. It is how a device's worker rests; it holds a thread meanwhile, which wakes in half the time that
// the network poller takes.
func (q *Queue) Wait() { q.kick.wait() }

// Wake makes one Wait return.
func (q *Queue) Wake() { q.kick.signal() }
