package virtio

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitTime is how long a test waits for what must come.
const waitTime = 20 * time.Second

// driver is a guest's side of a device, as Linux has it (virtio_mmio.c, virtio_ring.c): it knows the transport only by its registers and by RAM, which
// is mapped outside of Go's heap like a guest's, so that the race detector leaves to the rings what is theirs.
//
//	d := newDriver(t, dev)      // RAM, transport; closed with the test
//	d.start(wanted)             // reset, features, queues, DRIVER_OK
//	reply := d.queues[0].do(request, 512)
//
// RAM is ramSize bytes at 0 and as many at highRAM, where the rings are made. Each queue is for one goroutine.
type driver struct {
	t        testing.TB
	mem      *Memory
	dev      *MMIO
	features uint64 // negotiated
	queues   []*driverQueue
	config   chan struct{} // one item when the configuration has changed
	faults   chan error    // what the transport reported

	irq      chan struct{}
	handling sync.Mutex // against a change of dev
	mu       sync.Mutex
	next     [2]uint64 // free RAM, low and high
}

const (
	ramSize = 64 << 20
	highRAM = 4 << 30
)

func newDriver(t testing.TB, dev Device) *driver {
	t.Helper()
	d := &driver{
		t: t, config: make(chan struct{}, 1), faults: make(chan error, 16),
		irq: make(chan struct{}, 1), next: [2]uint64{1 << 20, highRAM},
	}
	var regions []Region
	for _, base := range []uint64{0, highRAM} {
		b, err := unix.Mmap(-1, 0, ramSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(b) })
		regions = append(regions, Region{base, b})
	}
	var err error
	if d.mem, err = NewMemory(regions...); err != nil {
		t.Fatal(err)
	}
	edge := func() { // an edge that comes before the last one was served is the same edge
		select {
		case d.irq <- struct{}{}:
		default:
		}
	}
	if d.dev, err = NewMMIO(dev, d.mem, edge, func(err error) { d.faults <- err }); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-stopped
		d.dev.Close()
	})
	for range dev.QueueSizes() {
		d.queues = append(d.queues, &driverQueue{d: d, index: len(d.queues), interrupt: make(chan struct{}, 1)})
	}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-d.irq:
				d.handle()
			}
		}
	}()
	return d
}

// handle is the interrupt handler (vm_interrupt).
func (d *driver) handle() {
	d.handling.Lock()
	defer d.handling.Unlock()
	status := d.read(regInterrupt)
	d.write(regInterruptACK, status)
	if status&interruptConfig != 0 {
		select {
		case d.config <- struct{}{}:
		default:
		}
	}
	if status&interruptUsed != 0 {
		for _, q := range d.queues {
			select {
			case q.interrupt <- struct{}{}:
			default:
			}
		}
	}
}

func (d *driver) read(reg uint64) uint32 {
	var b [4]byte
	d.dev.Read(reg, b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (d *driver) write(reg uint64, v uint32) {
	d.dev.Write(reg, binary.LittleEndian.AppendUint32(nil, v))
}

// readConfig reads n bytes of the configuration space, one by one.
func (d *driver) readConfig(off uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		d.dev.Read(regConfig+off+uint64(i), b[i:i+1])
	}
	return b
}

// reset brings the device to where it was when the machine began. RAM that the driver has taken is free again.
func (d *driver) reset() {
	d.write(regStatus, 0)
	if s := d.read(regStatus); s != 0 {
		d.t.Fatalf("status %#x after a reset", s)
	}
	d.next = [2]uint64{1 << 20, highRAM}
}

// negotiate resets the device and goes as far as FEATURES_OK with those of wanted that the device offers.
func (d *driver) negotiate(wanted uint64) {
	d.t.Helper()
	d.reset()
	d.write(regStatus, statusAcknowledge)
	d.write(regStatus, statusAcknowledge|statusDriver)
	d.features = wanted & d.offered()
	for i := range uint32(2) {
		d.write(regDriverFeaturesSel, i)
		d.write(regDriverFeatures, uint32(d.features>>(32*i)))
	}
	d.write(regStatus, statusAcknowledge|statusDriver|statusFeaturesOK)
	if d.read(regStatus)&statusFeaturesOK == 0 {
		d.t.Fatalf("features %#x were refused", d.features)
	}
}

func (d *driver) offered() uint64 {
	f := uint64(0)
	for i := range uint32(2) {
		d.write(regDeviceFeaturesSel, i)
		f |= uint64(d.read(regDeviceFeatures)) << (32 * i)
	}
	return f
}

// start sets the device up anew. size bounds the queues' sizes if it is given.
func (d *driver) start(wanted uint64, size ...uint16) {
	d.t.Helper()
	d.negotiate(wanted)
	for i, q := range d.queues {
		d.write(regQueueSel, uint32(i))
		n := uint16(d.read(regQueueSizeMax))
		if len(size) > 0 {
			n = min(n, size[0])
		}
		q.lay(n)
		q.register()
		d.write(regQueueReady, 1)
	}
	d.write(regStatus, d.read(regStatus)|statusDriverOK)
}

// allFeatures is what a driver wants that takes whatever is offered.
const allFeatures = ^uint64(0)

// alloc takes n bytes of zeroed low RAM, allocHigh of that above 4 GiB.
func (d *driver) alloc(n, align int) uint64     { return d.take(0, n, align) }
func (d *driver) allocHigh(n, align int) uint64 { return d.take(1, n, align) }

func (d *driver) take(where, n, align int) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := (d.next[where] + uint64(align) - 1) &^ (uint64(align) - 1)
	d.next[where] = at + uint64(n)
	clear(d.bytes(at, n))
	return at
}

// bytes is RAM.
func (d *driver) bytes(at uint64, n int) []byte {
	b, err := d.mem.Slice(at, uint64(n))
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// put copies p into new RAM and returns its buffer; room is a buffer of n bytes for the device to write.
func (d *driver) put(p []byte) buffer {
	b := buffer{at: d.alloc(len(p), 16), n: uint32(len(p))}
	copy(d.bytes(b.at, len(p)), p)
	return b
}
func (d *driver) room(n int) buffer { return buffer{d.alloc(n, 16), uint32(n), true} }

// buffer is one descriptor's worth of a request.
type buffer struct {
	at    uint64
	n     uint32
	write bool // by the device
}

// fault waits for the report of a fault and for the interrupt that tells the driver of it.
func (d *driver) fault() error {
	d.t.Helper()
	var err error
	select {
	case err = <-d.faults:
	case <-time.After(waitTime):
		d.t.Fatal("no fault was reported")
	}
	select {
	case <-d.config:
	case <-time.After(waitTime):
		d.t.Fatal("the driver was not told of a fault")
	}
	if d.read(regStatus)&statusNeedsReset == 0 {
		d.t.Errorf("status %#x after %v", d.read(regStatus), err)
	}
	return err
}

// driverQueue is the driver's side of a split virtqueue.
type driverQueue struct {
	d                 *driver
	index             int
	interrupt         chan struct{} // one item when the device has interrupted
	size              uint16
	desc, avail, used uint64 // addresses

	availWord, usedWord *atomic.Uint32 // flags|idx
	next                uint16         // avail idx, published
	kicked              uint16         // avail idx at the last kick
	lastUsed            uint16
	free                []uint16
	chains              map[uint16][]uint16 // the direct descriptors of what is in flight, by head
	tables              map[uint16]uint64   // indirect tables by head, used again
	scratch             buffer              // of do
}

// lay takes RAM for the rings as Linux does.
func (q *driverQueue) lay(size uint16) {
	n := int(size)
	q.size = size
	q.desc = q.d.allocHigh(16*n, 4096)
	q.avail = q.d.allocHigh(6+2*n, 4)
	q.used = q.d.allocHigh(6+8*n, 4096)
	q.attach()
}

// attach forgets all that was in flight; the rings are wherever the addresses say.
func (q *driverQueue) attach() {
	q.next, q.kicked, q.lastUsed = 0, 0, 0
	q.free, q.chains, q.tables, q.scratch = nil, map[uint16][]uint16{}, map[uint16]uint64{}, buffer{}
	for i := q.size; i > 0; i-- {
		q.free = append(q.free, i-1)
	}
	// RAM is mapped and the rings are aligned by four.
	q.availWord = (*atomic.Uint32)(unsafe.Pointer(&q.d.bytes(q.avail, 4)[0]))
	q.usedWord = (*atomic.Uint32)(unsafe.Pointer(&q.d.bytes(q.used, 4)[0]))
}

// register tells the device of the queue; it is not ready yet.
func (q *driverQueue) register() {
	d := q.d
	d.write(regQueueSel, uint32(q.index))
	d.write(regQueueSize, uint32(q.size))
	for _, r := range []struct{ low, high, at uint64 }{
		{regDescLow, regDescHigh, q.desc}, {regAvailLow, regAvailHigh, q.avail}, {regUsedLow, regUsedHigh, q.used},
	} {
		d.write(r.low, uint32(r.at))
		d.write(r.high, uint32(r.at>>32))
	}
}

// setDesc writes a descriptor of the queue, setDescAt one of any table.
func (q *driverQueue) setDesc(i uint16, de descriptor) { q.d.setDescAt(q.desc, i, de) }

func (d *driver) setDescAt(table uint64, i uint16, de descriptor) {
	b := d.bytes(table+uint64(i)*descSize, descSize)
	binary.LittleEndian.PutUint64(b, de.addr)
	binary.LittleEndian.PutUint32(b[8:], de.len)
	binary.LittleEndian.PutUint16(b[12:], de.flags)
	binary.LittleEndian.PutUint16(b[14:], de.next)
}

// add makes a request available without telling the device, and returns its head; false when descriptors are lacking. With an indirect table it takes one.
func (q *driverQueue) add(indirect bool, buffers ...buffer) (uint16, bool) {
	need := len(buffers)
	if indirect {
		need = 1
	}
	if need > len(q.free) {
		return 0, false
	}
	taken := q.free[len(q.free)-need:]
	q.free = q.free[:len(q.free)-need]
	head := taken[0]
	q.chains[head] = append(q.chains[head][:0], taken...)
	flags := func(i int) (f uint16) {
		if i < len(buffers)-1 {
			f |= descNext
		}
		if buffers[i].write {
			f |= descWrite
		}
		return f
	}
	if indirect {
		table, ok := q.tables[head]
		if !ok {
			table = q.d.alloc(descSize*max(len(buffers), 64), 16)
			q.tables[head] = table
		}
		for i, b := range buffers {
			q.d.setDescAt(table, uint16(i), descriptor{b.at, b.n, flags(i), uint16(i + 1)})
		}
		q.setDesc(head, descriptor{table, uint32(descSize * len(buffers)), descIndirect, 0})
	} else {
		for i, b := range buffers {
			next := uint16(0)
			if i < len(buffers)-1 {
				next = taken[i+1]
			}
			q.setDesc(taken[i], descriptor{b.at, b.n, flags(i), next})
		}
	}
	q.offer(head)
	return head, true
}

// offer puts a head into the available ring.
func (q *driverQueue) offer(head uint16) {
	binary.LittleEndian.PutUint16(q.d.bytes(q.avail+4+2*uint64(q.next&(q.size-1)), 2), head)
	q.next++
	q.publish(q.next)
}

// publish stores the available ring's index, and nothing else.
func (q *driverQueue) publish(idx uint16) {
	q.availWord.Store(q.availWord.Load()&0xffff | uint32(idx)<<16)
}

// kick tells the device of what was added if it wants to know, and says whether it did.
func (q *driverQueue) kick() bool {
	before := q.kicked
	q.kicked = q.next
	want := q.usedWord.Load()&1 == 0 // VIRTQ_USED_F_NO_NOTIFY
	if q.d.features&FeatureEventIdx != 0 {
		want = q.next-q.availEvent()-1 < q.next-before
	}
	if want {
		q.notify()
	}
	return want
}

func (q *driverQueue) notify() { q.d.write(RegQueueNotify, uint32(q.index)) }

func (q *driverQueue) availEvent() uint16 {
	return binary.LittleEndian.Uint16(q.d.bytes(q.used+4+8*uint64(q.size), 2))
}

func (q *driverQueue) setUsedEvent(at uint16) {
	binary.LittleEndian.PutUint16(q.d.bytes(q.avail+4+2*uint64(q.size), 2), at)
}

// get takes a request that the device has returned: its head and how many bytes it wrote. Its descriptors are free again.
func (q *driverQueue) get() (head uint16, written uint32, ok bool) {
	if uint16(q.usedWord.Load()>>16) == q.lastUsed {
		return 0, 0, false
	}
	e := q.d.bytes(q.used+4+8*uint64(q.lastUsed&(q.size-1)), 8)
	id := binary.LittleEndian.Uint32(e)
	q.lastUsed++
	head = uint16(id)
	chain := q.chains[head]
	if uint32(head) != id || len(chain) == 0 {
		q.d.t.Fatalf("queue %d: the device returned %d, which is not in flight", q.index, id)
	}
	q.free = append(q.free, chain...)
	q.chains[head] = chain[:0]
	return head, binary.LittleEndian.Uint32(e[4:]), true
}

// quiet asks the device not to interrupt; with EVENT_IDX that is a wish about the far future.
func (q *driverQueue) quiet() {
	if q.d.features&FeatureEventIdx != 0 {
		q.setUsedEvent(q.lastUsed - 1)
		return
	}
	q.availWord.Store(q.availWord.Load() | availNoInterrupt)
}

// wait is get, sleeping until an interrupt if nothing is there.
func (q *driverQueue) wait() (head uint16, written uint32) {
	q.d.t.Helper()
	for {
		if head, n, ok := q.get(); ok {
			return head, n
		}
		if q.d.features&FeatureEventIdx != 0 {
			q.setUsedEvent(q.lastUsed)
		}
		// This store of what is there already keeps the one above before the load that follows.
		q.availWord.Store(q.availWord.Load() &^ availNoInterrupt)
		if head, n, ok := q.get(); ok {
			return head, n
		}
		select {
		case <-q.interrupt:
		case err := <-q.d.faults:
			q.d.t.Fatalf("queue %d: %v", q.index, err)
		case <-time.After(waitTime):
			q.d.t.Fatalf("queue %d: no interrupt; avail idx %d, event %d; used idx %d, last %d", q.index, q.next, q.availEvent(), q.usedWord.Load()>>16, q.lastUsed)
		}
	}
}

// do sends out as one request with room for in bytes, waits for it, and returns what the device says that it has written. Nothing else may be in flight.
func (q *driverQueue) do(out []byte, in int) []byte {
	q.d.t.Helper()
	if n := len(out) + in; n > int(q.scratch.n) {
		q.scratch.n = max(4096, uint32(1)<<bits.Len(uint(n)))
		q.scratch.at = q.d.alloc(int(q.scratch.n), 16)
	}
	var buffers []buffer
	if len(out) > 0 {
		copy(q.d.bytes(q.scratch.at, len(out)), out)
		buffers = append(buffers, buffer{q.scratch.at, uint32(len(out)), false})
	}
	at := q.scratch.at + uint64(len(out))
	if in > 0 {
		clear(q.d.bytes(at, in))
		buffers = append(buffers, buffer{at, uint32(in), true})
	}
	head, ok := q.add(false, buffers...)
	if !ok {
		q.d.t.Fatalf("queue %d is full", q.index)
	}
	q.kick()
	got, n := q.wait()
	if got != head || int(n) > in {
		q.d.t.Fatalf("queue %d: request %d was returned as %d with %d bytes", q.index, head, got, n)
	}
	return append([]byte(nil), q.d.bytes(at, int(n))...)
}
