package virtio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// host is a host that takes memory and says which.
type host struct {
	mu  sync.Mutex
	d   *driver
	got []taken
	err error
}

type taken struct {
	at uint64
	n  int
}

func (h *host) release(b []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	for _, r := range h.d.mem.Regions() {
		// Where b lies in RAM, which is mapped and does not move.
		if off := uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&r.Bytes[0])); off < uintptr(len(r.Bytes)) {
			h.got = append(h.got, taken{r.Base + uint64(off), len(b)})
		}
	}
	return nil
}

func (h *host) take() []taken {
	h.mu.Lock()
	defer h.mu.Unlock()
	got := h.got
	h.got = nil
	return got
}

func newBalloon(t testing.TB, zeroes bool) (*Balloon, *driver, *host) {
	h := &host{}
	b := NewBalloon(h.release, zeroes)
	h.d = newDriver(t, b)
	return b, h.d, h
}

// report sends ranges as Linux does (virtballoon_free_page_report): writable buffers in one request.
func (q *driverQueue) report(ranges ...taken) {
	q.d.t.Helper()
	var list []buffer
	for _, r := range ranges {
		list = append(list, buffer{r.at, uint32(r.n), true})
	}
	head, _ := q.add(q.d.features&FeatureIndirect != 0, list...)
	q.kick()
	if got, n := q.wait(); got != head || n != 0 {
		q.d.t.Fatalf("request %d was returned as %d with %d bytes", head, got, n)
	}
}

func pfns(list ...uint32) (b []byte) {
	for _, n := range list {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

func TestBalloonReporting(t *testing.T) {
	ranges := []taken{{8 << 20, 2 << 20}, {highRAM + 4<<20, 4 << 20}, {16 << 20, 2 << 20}}
	none := []taken(nil)
	for _, c := range []struct {
		name     string
		features uint64
		poison   uint32
		zeroes   bool
		queue    int
		want     []taken
	}{
		{"plain", allFeatures &^ balloonPagePoison, 0, true, 2, ranges},
		{"at its place in the specification", allFeatures &^ balloonPagePoison, 0, true, 4, ranges},
		{"of a file", allFeatures &^ balloonPagePoison, 0, false, 2, ranges},
		{"zeros that are relied on", allFeatures, 0, true, 2, ranges},
		{"zeros that the file has not", allFeatures, 0, false, 2, none},
		{"poison", allFeatures, 0xaaaaaaaa, true, 2, none},
		{"not taken", FeatureVersion1 | balloonDeflateOnOOM, 0, true, 2, none},
		{"least", FeatureVersion1 | balloonPageReporting, 0, true, 2, ranges},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, d, h := newBalloon(t, c.zeroes)
			if id := d.read(regDeviceID); id != typeBalloon {
				t.Errorf("device %d", id)
			}
			d.negotiate(c.features)
			d.write(regConfig+balloonPoison, c.poison)
			for _, i := range []int{balloonInflate, balloonDeflate, c.queue} {
				d.write(regQueueSel, uint32(i))
				d.queues[i].lay(uint16(d.read(regQueueSizeMax)))
				d.queues[i].register()
				d.write(regQueueReady, 1)
			}
			d.write(regStatus, d.read(regStatus)|statusDriverOK)
			if c.name == "not taken" {
				d.queues[c.queue].add(false, buffer{8 << 20, 2 << 20, true})
				d.queues[c.queue].notify()
				d.queues[balloonDeflate].do(pfns(1), 0)
			} else {
				d.queues[c.queue].report(ranges...)
			}
			if got := h.take(); !slices.Equal(got, c.want) {
				t.Errorf("got %x, want %x", got, c.want)
			}
			bytes := uint64(0)
			for _, r := range c.want {
				bytes += uint64(r.n)
			}
			if n, err := b.Given(); n != bytes || err != nil {
				t.Errorf("given: %d, %v", n, err)
			}
		})
	}
}

func TestBalloonInflates(t *testing.T) {
	b, d, h := newBalloon(t, true)
	d.start(allFeatures)
	const high = highRAM / balloonPage
	inflate, deflate := d.queues[balloonInflate], d.queues[balloonDeflate]
	for _, c := range []struct {
		numbers []uint32
		want    []taken
	}{
		{[]uint32{512}, []taken{{512 << 12, 4096}}},
		{[]uint32{515, 514, 512, 513}, []taken{{512 << 12, 4 << 12}}},
		{[]uint32{600, 600, 602, high, 601, high + 2}, []taken{{600 << 12, 3 << 12}, {highRAM, 4096}, {highRAM + 2<<12, 4096}}},
		{[]uint32{0, ramSize/balloonPage - 1}, []taken{{0, 4096}, {ramSize - 4096, 4096}}},
		{nil, nil},
	} {
		if len(c.numbers) > 0 {
			inflate.do(pfns(c.numbers...), 0)
		} else {
			inflate.do(nil, 4)
		}
		if got := h.take(); !slices.Equal(got, c.want) {
			t.Errorf("%d: got %x, want %x", c.numbers, got, c.want)
		}
	}
	deflate.do(pfns(512, 513), 0)
	if got := h.take(); got != nil {
		t.Errorf("deflate released %x", got)
	}
	// A host that does not take it is no fault of the driver.
	h.mu.Lock()
	h.err = unix.EPERM
	h.mu.Unlock()
	inflate.do(pfns(700), 0)
	if n, err := b.Given(); !errors.Is(err, unix.EPERM) || n != 12*4096 {
		t.Errorf("given: %d, %v", n, err)
	}
}

func TestBalloonFaults(t *testing.T) {
	const pages = ramSize / balloonPage
	for name, request := range map[string][]byte{
		"behind RAM": pfns(512, pages), "a run that leaves RAM": pfns(pages-1, pages, pages+1), "far away": pfns(1<<32 - 1), "half a number": {1, 2, 3, 4, 5},
	} {
		t.Run(name, func(t *testing.T) {
			_, d, _ := newBalloon(t, true)
			d.start(allFeatures)
			d.queues[balloonInflate].add(false, d.put(request))
			d.queues[balloonInflate].kick()
			if err := d.fault(); !errors.Is(err, ErrRing) {
				t.Error(err)
			}
			// The driver may begin anew.
			d.start(allFeatures)
			d.queues[balloonInflate].do(pfns(512), 0)
		})
	}
}

// A request of more pages than any driver sends takes bounded memory and time.
func TestBalloonLongRequest(t *testing.T) {
	_, d, h := newBalloon(t, true)
	d.start(allFeatures)
	d.queues[balloonInflate].do(make([]byte, 16<<20), 0)
	if got := h.take(); !slices.Equal(got, []taken{{0, 4096}}) {
		t.Errorf("%x", got)
	}
}

func TestBalloonTarget(t *testing.T) {
	b, d, _ := newBalloon(t, true)
	told := func() {
		t.Helper()
		select {
		case <-d.config:
		case <-time.After(waitTime):
			t.Fatal("the driver was not told")
		}
	}
	target := func() uint32 { return binary.LittleEndian.Uint32(d.readConfig(balloonTarget, 4)) }
	d.start(allFeatures)
	if target() != 0 || b.Size() != 0 {
		t.Errorf("new: target %d, size %d", target(), b.Size())
	}
	before := d.read(regConfigVersion)
	b.SetTarget(32<<20 + 1)
	told()
	if n := target(); n != 32<<20/balloonPage || d.read(regConfigVersion) == before {
		t.Errorf("target %d, generation %d", n, d.read(regConfigVersion))
	}
	d.write(regConfig+balloonActual, 100)
	if b.Size() != 100*balloonPage {
		t.Errorf("size %d", b.Size())
	}
	// While the device rests, the target waits.
	d.dev.Pause()
	b.SetTarget(1 << 60)
	select {
	case <-d.config:
		t.Error("told in a pause")
	default:
	}
	d.dev.Resume()
	told()
	if n := target(); n != 1<<32-1 {
		t.Errorf("target %d", n)
	}
	d.dev.Pause()
	d.dev.Resume()
	select {
	case <-d.config:
		t.Error("told twice")
	default:
	}
	// What is the driver's goes with it; the target is the host's. Other fields cannot be written.
	d.write(regConfig+balloonTarget, 7)
	d.write(regConfig+8, 7)
	d.write(regConfig+balloonPoison, 7)
	d.dev.Write(regConfig+balloonActual, []byte{7})
	d.dev.Write(regConfig+1<<40, []byte{7, 7, 7, 7})
	want := []byte{0xff, 0xff, 0xff, 0xff, 100, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0}
	if got := d.readConfig(0, 18); !bytes.Equal(got, want) {
		t.Errorf("%x", got)
	}
	d.reset()
	clear(want[4:])
	if got := d.readConfig(0, 18); !bytes.Equal(got, want) || b.Size() != 0 {
		t.Errorf("after a reset: %x", got)
	}
}

// Whatever a driver puts into the rings, the device answers it or stops; what it releases lies in RAM.
func FuzzBalloon(f *testing.F) {
	f.Add(uint16(2), uint32(0), []byte("\x00\x10\x40\x00\x00\x00\x01\x00\x00\x20\x00\x10\x00\x00\x01\x02"), []byte("\x01\x00\x00\x00\x02\x00\x00\x00"))
	f.Add(uint16(1), uint32(7), []byte("\x00\x00\x00\x00\x10\x08\x02\x00"), []byte{})
	f.Fuzz(func(t *testing.T, ahead uint16, poison uint32, table, numbers []byte) {
		// But for 0, the driver relies on what it reports.
		_, d, h := newBalloon(t, poison%2 == 0)
		copy(d.bytes(0, 1<<17), bytes.Repeat(numbers, 1+(1<<17)/(len(numbers)+1)))
		d.negotiate(allFeatures)
		d.write(regConfig+balloonPoison, poison/2)
		for i, q := range d.queues {
			d.write(regQueueSel, uint32(i))
			q.lay(16)
			q.register()
			d.write(regQueueReady, 1)
		}
		d.write(regStatus, d.read(regStatus)|statusDriverOK)
		for _, i := range []int{balloonInflate, balloonReporting, balloonDeflate, 4} {
			d.queues[i].fuzz(ahead, table)
		}
		d.dev.Pause()
		d.onlyRingFaults()
		for _, r := range h.take() {
			if _, err := d.mem.Slice(r.at, uint64(r.n)); err != nil {
				t.Error(err)
			}
			if poison != 0 && r.n%balloonPage != 0 {
				t.Errorf("a reported range of %d bytes was released", r.n)
			}
		}
	})
}
