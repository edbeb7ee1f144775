package virtio

import (
	"fmt"
	"runtime"
	"testing"
)

// One request through the ring and back, both sides on one thread.
func BenchmarkPopPush(b *testing.B) {
	for _, indirect := range []bool{false, true} {
		b.Run(fmt.Sprintf("indirect=%v", indirect), func(b *testing.B) {
			d := newDriver(b, &echo{})
			d.negotiate(allFeatures)
			dq := d.queues[0]
			dq.lay(256)
			kick, err := newEvent()
			if err != nil {
				b.Fatal(err)
			}
			defer kick.close()
			q, err := newQueue(d.mem, QueueState{Size: 256, Desc: dq.desc, Avail: dq.avail, Used: dq.used}, d.features, kick, func() {})
			if err != nil {
				b.Fatal(err)
			}
			list := []buffer{d.put(make([]byte, 16)), d.room(4096), d.room(1)}
			var c Chain
			b.ReportAllocs()
			for b.Loop() {
				dq.add(indirect, list...)
				if ok, err := q.Pop(&c); !ok || err != nil {
					b.Fatal(ok, err)
				}
				q.Push(c.Head, 4097)
				q.Signal()
				dq.get()
			}
		})
	}
}

// Reads and writes of a file that is in the page cache, one after the other or many at once.
func BenchmarkBlock(b *testing.B) {
	const size = 64 << 20
	for _, kind := range []uint32{blockIn, blockOut} {
		for _, n := range []int{4 << 10, 1 << 20} {
			for _, depth := range []int{1, 16} {
				name := map[uint32]string{blockIn: "read", blockOut: "write"}[kind]
				b.Run(fmt.Sprintf("%s/%dk/depth=%d", name, n>>10, depth), func(b *testing.B) {
					f, _ := testFile(b, size, false)
					d := testBlock(b, f, false, allFeatures)
					q := d.queues[0]
					type place struct{ header, data, status buffer }
					places := map[uint16]place{}
					i := 0
					send := func(p place) {
						copy(d.bytes(p.header.at, 16), blockHeader(kind, uint64(i*n%size/512)))
						i++
						head, ok := q.add(true, p.header, p.data, p.status)
						if !ok {
							b.Fatal("full")
						}
						places[head] = p
						q.kick()
					}
					b.SetBytes(int64(n))
					b.ReportAllocs()
					for range depth {
						p := place{d.room(16), d.room(n), d.room(1)}
						p.header.write, p.data.write = false, kind == blockIn
						send(p)
					}
					for b.Loop() {
						head, _ := q.wait()
						p := places[head]
						if d.bytes(p.status.at, 1)[0] != blockOK {
							b.Fatal("failed")
						}
						send(p)
					}
					for range depth {
						q.wait()
					}
				})
			}
		}
	}
}

// One request after the other by a driver that rests in the kernel between them, as a processor does, not in Go's scheduler.
func BenchmarkBlockLatency(b *testing.B) {
	for kind, name := range map[uint32]string{blockIn: "read", blockOut: "write"} {
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			const size, n = 64 << 20, 4096
			irq, err := newEvent()
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(irq.close)
			f, _ := testFile(b, size, false)
			d := testBlock(b, f, false, allFeatures)
			d.dev.Pause()
			d.dev.irq = irq.signal
			d.dev.Resume()
			q := d.queues[0]
			header, data, status := d.room(16), d.room(n), d.room(1)
			header.write, data.write = false, kind == blockIn
			i := 0
			for b.Loop() {
				copy(d.bytes(header.at, 16), blockHeader(kind, uint64(i*n%size/sectorSize)))
				i++
				q.setUsedEvent(q.lastUsed)
				q.add(true, header, data, status)
				d.dev.kicks[0].signal()
				for _, _, ok := q.get(); !ok; _, _, ok = q.get() {
					irq.wait()
				}
			}
		})
	}
}
