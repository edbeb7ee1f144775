package virtio

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"capsid/vmm/disk"
)

// Features of a block device (§5.2.3).
const (
	blockSizeMax     = 1 << 1
	blockSegMax      = 1 << 2
	blockReadOnly    = 1 << 5
	blockBlkSize     = 1 << 6
	blockFlush       = 1 << 9
	blockTopology    = 1 << 10
	blockDiscard     = 1 << 13
	blockWriteZeroes = 1 << 14
)

const (
	sectorSize = 512 // the unit of all that the protocol counts (§5.2.4)

	blockQueueSize = 256
	// blockSegments leaves room for the header and the status in a queue without indirect descriptors.
	blockSegments    = blockQueueSize - 2
	blockSegmentSize = 256 << 10
	// blockMaxBytes is the longest request of a driver that keeps to the two above; longer ones are refused. It bounds how long Stop waits.
	blockMaxBytes = blockSegments * blockSegmentSize
	// blockWorkers is how many requests are served at once. More wait in the ring.
	blockWorkers = 16
	// blockRanges bounds the ranges of a discard, blockRangeSectors each of them (256 MiB), and blockZeroSectors what is zeroed at once (64 MiB),
	// which may have to be written.
	blockRanges       = 16
	blockRangeSectors = 256 << 20 / sectorSize
	blockZeroSectors  = 64 << 20 / sectorSize
	// blockPhysicalExp: blocks of 4 KiB (512<<3) are what file systems and disks of hosts have.
	blockPhysicalExp = 3
	blockSerialSize  = 20 // §5.2.6: of GET_ID
)

// BlockConfig says what a block device is made of. The disk stays the caller's, who closes it after the transport. Serial is at most 20 bytes.
type BlockConfig struct {
	Disk   *disk.Stack
	Serial string
}

// Block is a block device (§5.2) with one queue. The host's page cache is its volatile write cache: a flush brings what has been written to the
// host's disk, and a driver without flushes gets each write there. It keeps no state.
type Block struct {
	disk     backing
	readOnly bool
	serial   string
	sectors  uint64

	run *blockRun // while started
}

// NewBlock makes a device of an open disk.
func NewBlock(c BlockConfig) (*Block, error) {
	if len(c.Serial) > blockSerialSize {
		return nil, fmt.Errorf("block: serial %q is longer than %d bytes", c.Serial, blockSerialSize)
	}
	return &Block{disk: c.Disk, readOnly: c.Disk.ReadOnly(), serial: c.Serial, sectors: uint64(c.Disk.Size()) / sectorSize}, nil
}

// backing is where the bytes are: see disk.Stack.
type backing interface {
	Readv(v [][]byte, off int64, atOnce bool) (int, error)
	Writev(v [][]byte, off int64, atOnce bool) (int, error)
	Sync() error
	Discard(off, n int64) error
	Zero(off, n int64, unmap bool) error
}

func (b *Block) Type() uint32         { return typeBlock }
func (b *Block) QueueSizes() []uint16 { return []uint16{blockQueueSize} }
func (b *Block) Reset()               {}

func (b *Block) Features() uint64 {
	f := uint64(blockSizeMax | blockSegMax | blockBlkSize | blockTopology | blockFlush)
	if b.readOnly {
		return f | blockReadOnly
	}
	return f | blockDiscard | blockWriteZeroes
}

// ReadConfig serves struct virtio_blk_config (§5.2.4).
func (b *Block) ReadConfig(p []byte, off uint64) {
	le := binary.LittleEndian
	c := le.AppendUint64(make([]byte, 0, 60), b.sectors)
	c = le.AppendUint32(c, blockSegmentSize)
	c = le.AppendUint32(c, blockSegments)
	c = append(c, 0, 0, 0, 0) // geometry: not offered
	c = le.AppendUint32(c, sectorSize)
	c = append(c, blockPhysicalExp, 0)
	c = le.AppendUint16(c, 1<<blockPhysicalExp) // the least I/O that is good, in blocks
	c = le.AppendUint32(c, 0)                   // the best
	c = append(c, 0, 0, 0, 0)                   // writeback, queues: not offered
	if !b.readOnly {
		c = le.AppendUint32(c, blockRangeSectors)
		c = le.AppendUint32(c, blockRanges)
		c = le.AppendUint32(c, 1<<blockPhysicalExp)
		c = le.AppendUint32(c, blockZeroSectors)
		c = le.AppendUint32(c, 1)
		c = append(c, 1) // zeroing may unmap
	}
	readConfig(p, c, off)
}

func (b *Block) WriteConfig(p []byte, off uint64) {}

// blockRun is the time from Start to Stop. One worker at a time leads: it takes requests from the ring, does at once what cannot block, and hands the lead
// on before it does what can. So no request waits for another goroutine to wake, and a slow disk stops nobody else. When all are busy, requests wait in
// the ring.
type blockRun struct {
	*Block
	queue   *Queue
	through bool          // each write goes to the disk before it is done
	lead    chan struct{} // one token
	stopped atomic.Bool
	workers sync.WaitGroup
}

func (b *Block) Start(r Running) {
	if r.Queues[0] == nil {
		return
	}
	run := &blockRun{
		Block: b, queue: r.Queues[0], lead: make(chan struct{}, 1),
		// §5.2.6.2: a driver that was offered flushes and did not take them has no other way to a stable write.
		through: r.Features&blockFlush == 0,
	}
	run.lead <- struct{}{}
	for range blockWorkers {
		run.workers.Go(func() { run.serve(r.Fail) })
	}
	b.run = run
}

func (b *Block) Stop() {
	if b.run == nil {
		return
	}
	b.run.stopped.Store(true)
	b.run.queue.Wake()
	b.run.workers.Wait()
	b.run = nil
}

func (b *blockRun) serve(fail func(error)) {
	var r blockRequest
	for {
		<-b.lead
		ok, err := b.take(&r)
		if err != nil {
			b.stopped.Store(true)
			fail(err)
		}
		b.queue.Signal() // of those that were done at once
		b.lead <- struct{}{}
		if !ok || err != nil {
			return
		}
		b.slow(&r)
		b.finish(&r)
		b.queue.Signal()
	}
}

// take leads until there is a request that may take time. It returns false when the device has stopped.
func (b *blockRun) take(r *blockRequest) (bool, error) {
	for !b.stopped.Load() {
		ok, err := b.queue.Pop(&r.chain)
		if err != nil {
			return false, err
		}
		if !ok {
			b.queue.Signal()
			if !b.queue.Rearm() {
				b.queue.Wait()
			}
			continue
		}
		if err := b.parse(r); err != nil {
			return false, err
		}
		if !b.quick(r) {
			return true, nil
		}
		b.finish(r)
	}
	return false, nil
}

// finish returns a request to the driver.
func (b *blockRun) finish(r *blockRequest) {
	r.answer[0] = r.status
	b.queue.Push(r.chain.Head, r.room)
}
