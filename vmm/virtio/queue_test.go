package virtio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// echo is a device with two queues that answers each request with what it was sent. Some requests, by their first byte, are answered by another
// goroutine, later than those that come after.
type echo struct {
	run    *workers
	late   chan func()
	ended  chan struct{}
	config atomic.Uint32
}

func (e *echo) Type() uint32                     { return 42 }
func (e *echo) Features() uint64                 { return 1<<3 | 1<<40 }
func (e *echo) QueueSizes() []uint16             { return []uint16{256, 4} }
func (e *echo) WriteConfig(p []byte, off uint64) { e.config.Add(1) }
func (e *echo) Reset()                           {}
func (e *echo) ReadConfig(p []byte, off uint64) {
	readConfig(p, binary.LittleEndian.AppendUint32(nil, 0x11223344), off)
}

func (e *echo) Start(r Running) {
	e.run, e.late, e.ended = new(workers), make(chan func(), 1024), make(chan struct{})
	go func() {
		defer close(e.ended)
		for f := range e.late {
			f()
		}
	}()
	for _, q := range r.Queues {
		if q == nil {
			continue
		}
		e.run.queues = append(e.run.queues, q)
		e.run.group.Go(func() {
			defer q.Signal()
			var c Chain
			for !e.run.stopped.Load() {
				ok, err := q.Pop(&c)
				if err != nil {
					r.Fail(err)
					return
				}
				if !ok {
					q.Signal()
					if !q.Rearm() {
						q.Wait()
					}
					continue
				}
				b := make([]byte, Len(c.Readable))
				Gather(b, c.Readable, 0)
				n := uint32(Scatter(c.Writable, b, 0))
				if head := c.Head; len(b) > 0 && b[0]%4 == 3 {
					e.late <- func() { q.Push(head, n); q.Signal() }
					continue
				}
				q.Push(c.Head, n)
			}
		})
	}
}

func (e *echo) Stop() {
	if e.run == nil {
		return
	}
	e.run.stop()
	close(e.late)
	<-e.ended
	e.run = nil
}

// works sends a request there and back.
func (d *driver) works() {
	d.t.Helper()
	if got := d.queues[0].do([]byte("hello"), 5); string(got) != "hello" {
		d.t.Fatalf("got %q", got)
	}
}

// eachFeature runs a test with the ring's features in all combinations.
func eachFeature(t *testing.T, test func(t *testing.T, features uint64)) {
	for _, f := range []uint64{0, FeatureIndirect, FeatureEventIdx, FeatureIndirect | FeatureEventIdx} {
		t.Run(fmt.Sprintf("indirect %v, event index %v", f&FeatureIndirect != 0, f&FeatureEventIdx != 0), func(t *testing.T) {
			test(t, f|FeatureVersion1)
		})
	}
}

// Requests of many buffers, of any length, with empty ones among them.
func TestQueueChains(t *testing.T) {
	eachFeature(t, func(t *testing.T, features uint64) {
		d := newDriver(t, &echo{})
		d.start(features)
		q := d.queues[0]
		r := rand.New(rand.NewPCG(3, 4))
		for range 300 {
			mark := d.next
			var list []buffer
			var want []byte
			for range 1 + r.IntN(20) {
				p := make([]byte, r.IntN(100))
				for i := range p {
					p[i] = byte(r.Uint32())
				}
				want = append(want, p...)
				list = append(list, d.put(p))
			}
			var rooms []buffer
			for left := len(want); left > 0; {
				b := d.room(r.IntN(left + 1))
				rooms, left = append(rooms, b), left-int(b.n)
			}
			head, ok := q.add(d.features&FeatureIndirect != 0, append(list, rooms...)...)
			if !ok {
				t.Fatal("full")
			}
			q.kick()
			var got []byte
			if h, n := q.wait(); h != head || int(n) != len(want) {
				t.Fatalf("%d bytes of %d", n, len(want))
			}
			for _, b := range rooms {
				got = append(got, d.bytes(b.at, int(b.n))...)
			}
			if !bytes.Equal(got, want) {
				t.Fatal("wrong bytes")
			}
			q.tables = map[uint16]uint64{}
			d.next = mark
		}
	})
}

// An indirect table may stand behind direct buffers, and a table's descriptor may say that it is writable (§2.7.5.3.2).
func TestQueueIndirectAtEnd(t *testing.T) {
	d := newDriver(t, &echo{})
	d.start(allFeatures)
	q := d.queues[0]
	table, in, more, out := d.alloc(32, 16), d.put([]byte("ab")), d.put([]byte("cd")), d.room(4)
	d.setDescAt(table, 1, descriptor{more.at, 2, descNext, 0})
	d.setDescAt(table, 0, descriptor{more.at, 2, descNext, 1})
	d.setDescAt(table, 1, descriptor{out.at, 4, descWrite, 0})
	q.setDesc(7, descriptor{in.at, 2, descNext, 9})
	q.setDesc(9, descriptor{table, 32, descIndirect | descWrite, 0})
	q.chains[7] = []uint16{7, 9}
	q.offer(7)
	q.kick()
	if _, n := q.wait(); n != 4 || string(d.bytes(out.at, 4)) != "abcd" {
		t.Errorf("%d bytes, %q", n, d.bytes(out.at, 4))
	}
}

// pump sends total requests through a queue as fast as it takes them: kicks and interrupts that are lost would leave it hanging.
func pump(t *testing.T, d *driver, q *driverQueue, total int) {
	r := rand.New(rand.NewPCG(5, uint64(total)))
	type place struct{ in, out buffer }
	places := make([]place, q.size)
	for i := range places {
		places[i] = place{d.room(8), d.room(8)}
		places[i].in.write = false
	}
	at, number := map[uint16]int{}, make([]uint64, len(places))
	var free []int
	for i := range places {
		free = append(free, i)
	}
	indirect := d.features&FeatureIndirect != 0
	take := func(head uint16, n uint32) {
		i, ok := at[head]
		if !ok || n != 8 {
			t.Fatalf("request %d returned with %d bytes", head, n)
		}
		delete(at, head)
		if got := binary.LittleEndian.Uint64(d.bytes(places[i].out.at, 8)); got != number[i] {
			t.Fatalf("request %d answered as %d", number[i], got)
		}
		free = append(free, i)
	}
	for sent, got := 0, 0; got < total; {
		for n := 1 + r.IntN(len(places)); n > 0 && sent < total && len(free) > 0; n-- {
			i := free[len(free)-1]
			p := places[i]
			number[i] = uint64(sent)
			binary.LittleEndian.PutUint64(d.bytes(p.in.at, 8), number[i])
			head, ok := q.add(indirect && r.IntN(2) == 0, p.in, p.out)
			if !ok {
				break
			}
			at[head], free = i, free[:len(free)-1]
			sent++
			if r.IntN(4) == 0 {
				q.kick()
			}
		}
		q.kick()
		switch r.IntN(3) {
		case 0: // look, without waiting
			q.quiet()
			for head, n, ok := q.get(); ok; head, n, ok = q.get() {
				take(head, n)
				got++
			}
		case 1:
			if len(at) > 0 {
				take(q.wait())
				got++
			}
		case 2: // all that is there, having waited for the first
			if len(at) > 0 {
				take(q.wait())
				got++
			}
			q.quiet()
			for head, n, ok := q.get(); ok; head, n, ok = q.get() {
				take(head, n)
				got++
			}
		}
	}
}

// No kick and no interrupt is lost, also where the indices wrap at 65536.
func TestQueueStress(t *testing.T) {
	eachFeature(t, func(t *testing.T, features uint64) {
		d := newDriver(t, &echo{})
		d.start(features, 8)
		done := make(chan struct{})
		go func() {
			defer close(done)
			pump(t, d, d.queues[1], 40_000)
		}()
		pump(t, d, d.queues[0], 140_000)
		<-done
	})
}

// The machine is paused and goes on in the middle of everything.
func TestQueuePaused(t *testing.T) {
	d := newDriver(t, &echo{})
	d.start(allFeatures, 8)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			d.dev.Pause()
			if s := d.dev.queues[0].State(); s.NextAvail != s.NextUsed {
				t.Errorf("paused with %+v", s)
			}
			d.dev.Resume()
		}
	}()
	pump(t, d, d.queues[0], 5_000)
	close(stop)
	<-stopped
}

// A queue that was saved goes on where it was, in another transport over the same memory.
func TestQueueState(t *testing.T) {
	mem, err := NewMemory(Region{0, make([]byte, 1<<16)})
	if err != nil {
		t.Fatal(err)
	}
	raised := 0
	s := QueueState{Size: 4, Desc: 0, Avail: 0x1000, Used: 0x2000, Ready: true, NextAvail: 65534, NextUsed: 65534}
	le := binary.LittleEndian
	b, _ := mem.Slice(0, 1<<16)
	le.PutUint16(b[0x1000+2:], 65534)
	kick, err := newEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer kick.close()
	var c Chain
	for i := range 6 {
		q, err := newQueue(mem, s, FeatureEventIdx, kick, func() { raised++ })
		if err != nil {
			t.Fatal(err)
		}
		if event := le.Uint16(b[0x2000+4+8*4:]); event != s.NextAvail {
			t.Errorf("event %d before the first request", event)
		}
		if ok, err := q.Pop(&c); ok || err != nil {
			t.Fatalf("an empty ring: %v, %v", ok, err)
		}
		head := uint16(i % 4)
		le.PutUint16(b[0x1000+4+2*int(s.NextAvail&3):], head)
		le.PutUint16(b[0x1000+2:], s.NextAvail+1)
		le.PutUint16(b[0x1000+4+2*4:], s.NextUsed) // used_event: tell of this one
		if ok, err := q.Pop(&c); !ok || err != nil || c.Head != head {
			t.Fatalf("request %d: %v, %v, head %d", i, ok, err, c.Head)
		}
		q.Undo()
		if ok, err := q.Pop(&c); !ok || err != nil || c.Head != head {
			t.Fatalf("request %d again: %v, %v, head %d", i, ok, err, c.Head)
		}
		q.Push(head, 7)
		q.Signal()
		q.Signal()
		if raised != i+1 {
			t.Fatalf("%d interrupts after %d requests", raised, i+1)
		}
		if e := b[0x2000+4+8*int(s.NextUsed&3):]; le.Uint32(e) != uint32(head) || le.Uint32(e[4:]) != 7 || le.Uint16(b[0x2002:]) != s.NextUsed+1 {
			t.Fatalf("used ring %x", b[0x2000:0x2030])
		}
		if s = q.State(); s.NextAvail != uint16(65535+i) || s.NextUsed != s.NextAvail {
			t.Fatalf("state %+v", s)
		}
	}
}

// Which kicks and interrupts there are, one by one: everything else would be a race that the tests above win by chance.
func TestQueueEvents(t *testing.T) {
	mem, err := NewMemory(Region{0, make([]byte, 1<<16)})
	if err != nil {
		t.Fatal(err)
	}
	kick, err := newEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer kick.close()
	le := binary.LittleEndian
	b, _ := mem.Slice(0, 1<<16)
	const size = 8
	for _, start := range []uint16{0, 100, 65530, 65535} {
		for before := range uint16(size) { // pushed and signalled before the driver says from where on it wants to know
			for event := range uint16(size) {
				for pushed := range uint16(size - before + 1) {
					clear(b)
					raised := 0
					s := QueueState{Size: size, Desc: 0, Avail: 0x1000, Used: 0x2000, NextAvail: start + size, NextUsed: start}
					q, err := newQueue(mem, s, FeatureEventIdx, kick, func() { raised++ })
					if err != nil {
						t.Fatal(err)
					}
					for range before {
						q.Push(0, 0)
					}
					q.Signal()
					le.PutUint16(b[0x1000+4+2*size:], start+event)
					raised = 0
					for range pushed {
						q.Push(0, 0)
					}
					q.Signal()
					// The request of index event is among those that were pushed just now.
					if want := event >= before && event < before+pushed; (raised == 1) != want {
						t.Errorf("from %d: %d, event %d, %d: raised %d", start, before, event, pushed, raised)
					}
				}
			}
		}
		// Rearm asks for the next one, and sees one that has come already.
		clear(b)
		le.PutUint16(b[0x1002:], start)
		s := QueueState{Size: size, Desc: 0, Avail: 0x1000, Used: 0x2000, NextAvail: start, NextUsed: start}
		q, err := newQueue(mem, s, FeatureEventIdx, kick, func() {})
		if err != nil {
			t.Fatal(err)
		}
		le.PutUint16(b[0x1002:], start+1)
		var c Chain
		if ok, err := q.Pop(&c); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if event := le.Uint16(b[0x2000+4+8*size:]); event != start {
			t.Errorf("from %d: event %d before Rearm", start, event)
		}
		if q.Rearm() {
			t.Errorf("from %d: Rearm saw a request", start)
		}
		if event := le.Uint16(b[0x2000+4+8*size:]); event != start+1 || le.Uint16(b[0x2002:]) != start {
			t.Errorf("from %d: event %d", start, event)
		}
		le.PutUint16(b[0x1002:], start+2)
		if !q.Rearm() {
			t.Errorf("from %d: Rearm saw no request", start)
		}
	}
}

func TestMemory(t *testing.T) {
	low, high := make([]byte, 4096), make([]byte, 8192)
	m, err := NewMemory(Region{1 << 32, high}, Region{4096, low})
	if err != nil {
		t.Fatal(err)
	}
	if r := m.Regions(); len(r) != 2 || r[0].Base != 4096 || r[1].Base != 1<<32 {
		t.Errorf("regions %v", r)
	}
	for _, c := range []struct {
		at, n uint64
		want  []byte // where it begins
	}{
		{4096, 4096, low}, {4097, 4095, low[1:]}, {8191, 1, low[4095:]}, {8192, 0, low[4096:]}, {1 << 32, 8192, high}, {1<<32 + 8192, 0, nil},
		{4095, 1, nil}, {4096, 4097, nil}, {8192, 1, nil}, {0, 0, nil}, {1<<32 - 1, 2, nil}, {1 << 32, 8193, nil},
		{^uint64(0), 1, nil}, {^uint64(0), 2, nil}, {1 << 32, ^uint64(0), nil}, {4097, ^uint64(0), nil}, {1 << 63, 1 << 63, nil},
	} {
		b, err := m.Slice(c.at, c.n)
		switch {
		case c.at == 1<<32+8192: // nothing, at the very end
			if err != nil || len(b) != 0 {
				t.Errorf("%#x, %d: %v, %v", c.at, c.n, b, err)
			}
		case c.want == nil:
			if !errors.Is(err, ErrMemory) {
				t.Errorf("%#x, %d: %d bytes, %v", c.at, c.n, len(b), err)
			}
		case err != nil || uint64(len(b)) != c.n || cap(b) != len(b) || c.n > 0 && &b[0] != &c.want[0]:
			t.Errorf("%#x, %d: %d bytes, %v", c.at, c.n, len(b), err)
		}
	}
	for _, r := range [][]Region{
		{{0, low}, {4095, high}}, {{0, low}, {0, high}}, {{^uint64(0) - 100, low}},
	} {
		if _, err := NewMemory(r...); err == nil {
			t.Errorf("regions at %#x were taken", r[0].Base)
		}
	}
	if _, err := NewMemory(Region{0, low}, Region{4096, high}); err != nil {
		t.Errorf("neighbours: %v", err)
	}
}

func TestBuffers(t *testing.T) {
	whole := []byte("abcdefghij")
	split := func() [][]byte { return [][]byte{[]byte("abc"), {}, []byte("d"), []byte("efghij")} }
	if Len(split()) != 10 || Len(nil) != 0 {
		t.Error("Len")
	}
	for off := range 13 {
		for n := range 13 {
			from := min(off, 10)
			want := whole[from:min(from+n, 10)]
			p := make([]byte, n)
			if k := Gather(p, split(), off); !bytes.Equal(p[:k], want) {
				t.Errorf("Gather from %d, %d: %q", off, n, p[:k])
			}
			if got := bytes.Join(Cut(split(), off, n), nil); !bytes.Equal(got, want) {
				t.Errorf("Cut from %d, %d: %q", off, n, got)
			}
			s := split()
			k := Scatter(s, bytes.Repeat([]byte("x"), n), off)
			after := bytes.Join([][]byte{whole[:from], bytes.Repeat([]byte("x"), len(want)), whole[from+len(want):]}, nil)
			if got := bytes.Join(s, nil); k != len(want) || !bytes.Equal(got, after) {
				t.Errorf("Scatter at %d, %d: %q", off, n, got)
			}
		}
		if got := bytes.Join(skip(split(), off), nil); !bytes.Equal(got, whole[min(off, 10):]) {
			t.Errorf("skip %d: %q", off, got)
		}
	}
}
