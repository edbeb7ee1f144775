package virtio

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
)

// Feature bits of a balloon (§5.5.3).
const (
	balloonDeflateOnOOM  = 1 << 2
	balloonPagePoison    = 1 << 4
	balloonPageReporting = 1 << 5
)

// Queues of a balloon. §5.5.2 has the reporting queue at 4, behind two that exist only with features that this device does not offer; Linux
// (vm_find_vqs of virtio_mmio.c) counts only those that exist and has it at 2. Whichever of them the driver makes is taken for it.
const (
	balloonInflate   = 0
	balloonDeflate   = 1
	balloonReporting = 2
	balloonQueues    = 5
)

// Fields of the configuration space (§5.5.4), each of 32 bits.
const (
	balloonTarget     = 0  // num_pages
	balloonActual     = 4  // written by the driver
	balloonPoison     = 12 // poison_val, written by the driver; what is between is for a feature that is not offered
	balloonConfigSize = 16
)

const (
	// balloonPage is the unit of the inflate and deflate queues and of the configuration, whatever the guest's pages are (§5.5.6).
	balloonPage = 4096
	// maxPFNs bounds what one request inflates. Linux sends 256 at a time (VIRTIO_BALLOON_ARRAY_PFNS_MAX).
	maxPFNs = 4096
)

// Balloon is a memory balloon (§5.5). It gives the host back what the guest does not use: free pages, which the driver reports by itself within
// seconds, and those that it puts aside to reach a target. A guest that is out of memory takes the latter again.
type Balloon struct {
	release func(b []byte) error
	zeroes  bool
	work    *workers

	mu      sync.Mutex
	config  [balloonConfigSize]byte
	told    bool   // the driver knows of the target
	changed func() // tells it; nil when the device does not work
	given   uint64
	failed  error
}

// NewBalloon makes a balloon that is not to hold anything yet. release gives pages back to the host, see Mapping: it gets slices of
// guest RAM that begin and end anywhere, and may be called from several goroutines. zeroes says that what it released reads as zeros.
func NewBalloon(release func(b []byte) error, zeroes bool) *Balloon {
	return &Balloon{release: release, zeroes: zeroes, told: true}
}

// SetTarget asks the guest to put so many bytes of its memory aside. It may be called at any time.
func (b *Balloon) SetTarget(bytes uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	binary.LittleEndian.PutUint32(b.config[balloonTarget:], uint32(min(bytes/balloonPage, math.MaxUint32)))
	b.told = false
	b.tell()
}

func (b *Balloon) tell() {
	if b.changed != nil && !b.told {
		b.told = true
		b.changed()
	}
}

// Size is how many bytes the driver says that it has put aside.
func (b *Balloon) Size() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return balloonPage * uint64(binary.LittleEndian.Uint32(b.config[balloonActual:]))
}

// Given is how many bytes were given back so far, those that were so twice counted twice; and why that failed last, if it ever did.
func (b *Balloon) Given() (bytes uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.given, b.failed
}

// Type is that of a balloon.
func (b *Balloon) Type() uint32 { return typeBalloon }

// Features are reporting; page poison, without which a Linux with init_on_free does not report (virtballoon_validate); and deflate on OOM.
func (b *Balloon) Features() uint64 {
	return balloonDeflateOnOOM | balloonPagePoison | balloonPageReporting
}

// QueueSizes: Linux reports 32 ranges at a time and wants as many places (PAGE_REPORTING_CAPACITY).
func (b *Balloon) QueueSizes() []uint16 {
	sizes := make([]uint16, balloonQueues)
	for i := range sizes {
		sizes[i] = 64
	}
	return sizes
}

// ReadConfig reads the fields of §5.5.4.
func (b *Balloon) ReadConfig(p []byte, off uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	readConfig(p, b.config[:], off)
}

// WriteConfig takes the two fields that are the driver's.
func (b *Balloon) WriteConfig(p []byte, off uint64) {
	if len(p) != 4 || off != balloonActual && off != balloonPoison {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	copy(b.config[off:], p)
}

func (b *Balloon) save() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]byte(nil), b.config[:]...)
}

func (b *Balloon) restore(s []byte) error {
	if len(s) != balloonConfigSize {
		return fmt.Errorf("%w: a balloon's of %d bytes", ErrState, len(s))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	copy(b.config[:], s)
	return nil
}

// Start serves the queues.
func (b *Balloon) Start(r Running) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.work = &workers{}
	buf := make([]byte, 4*maxPFNs)
	b.work.serve(r.Queues[balloonInflate], r.Fail, func(c *Chain) (uint32, error) { return 0, b.inflate(r.Memory, c, buf) })
	b.work.serve(r.Queues[balloonDeflate], r.Fail, func(*Chain) (uint32, error) { return 0, nil }) // the host gives pages when they are used
	if r.Features&balloonPageReporting != 0 {
		keep := b.keeps(r.Features)
		for _, q := range r.Queues[balloonReporting:] {
			b.work.serve(q, r.Fail, func(c *Chain) (uint32, error) {
				for _, p := range c.Writable {
					if !keep {
						b.give(p)
					}
				}
				return 0, nil
			})
		}
	}
	b.changed = r.ConfigChanged
	b.tell()
}

// keeps says whether reported pages must stay as they are: the driver relies on what it has written to them, and what is released
// would not read as that (§5.5.6.7). poison_val does not change while the driver works (§5.5.6.6).
func (b *Balloon) keeps(features uint64) bool {
	poison := binary.LittleEndian.Uint32(b.config[balloonPoison:])
	return features&balloonPagePoison != 0 && (poison != 0 || !b.zeroes)
}

// inflate releases the pages whose numbers a request has, neighbours in one go. What is in them does not matter: a driver writes to deflated
// pages before it reads them, page poison or not (§5.5.6.6).
func (b *Balloon) inflate(mem *Memory, c *Chain, buf []byte) error {
	n := Gather(buf, c.Readable, 0)
	if n%4 != 0 {
		return fmt.Errorf("%w: inflate by %d bytes of page numbers", ErrRing, n)
	}
	pages := make([]uint32, 0, n/4)
	for ; n > 0; n -= 4 {
		pages = append(pages, binary.LittleEndian.Uint32(buf[n-4:]))
	}
	slices.Sort(pages)
	pages = slices.Compact(pages)
	for len(pages) > 0 {
		run := 1
		for run < len(pages) && pages[run] == pages[0]+uint32(run) {
			run++
		}
		p, err := mem.Slice(balloonPage*uint64(pages[0]), balloonPage*uint64(run))
		if err != nil {
			return fmt.Errorf("%w: inflate: %w", ErrRing, err)
		}
		b.give(p)
		pages = pages[run:]
	}
	return nil
}

// give hands a range to the host. That the host does not take it is not the driver's fault, and not the guest's concern.
func (b *Balloon) give(p []byte) {
	err := b.release(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.failed = err
		return
	}
	b.given += uint64(len(p))
}

// Stop ends the workers.
func (b *Balloon) Stop() {
	b.mu.Lock()
	work := b.work
	b.work, b.changed = nil, nil
	b.mu.Unlock()
	work.stop() // they take the lock
}

// Reset forgets the driver's fields. The target stays.
func (b *Balloon) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.config[balloonActual:])
}
