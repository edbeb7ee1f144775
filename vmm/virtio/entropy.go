package virtio

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// maxEntropy bounds what one request gets; a driver takes what it is given (§5.4.6.1). Linux asks for 64 bytes at a time.
const maxEntropy = 64 << 10

// Entropy is an entropy device (§5.4): it gives the guest random bytes. It keeps no state.
type Entropy struct {
	source io.Reader
	stop   atomic.Bool
	queue  *Queue
	done   sync.WaitGroup
}

// NewEntropy makes a device that reads from source, which must not block: crypto/rand.Reader. An error of the source stops the device.
func NewEntropy(source io.Reader) *Entropy { return &Entropy{source: source} }

func (e *Entropy) Type() uint32                     { return typeEntropy }
func (e *Entropy) Features() uint64                 { return 0 }
func (e *Entropy) QueueSizes() []uint16             { return []uint16{64} }
func (e *Entropy) ReadConfig(p []byte, off uint64)  { clear(p) }
func (e *Entropy) WriteConfig(p []byte, off uint64) {}
func (e *Entropy) Reset()                           {}

func (e *Entropy) Start(r Running) {
	if e.queue = r.Queues[0]; e.queue == nil {
		return
	}
	e.stop.Store(false)
	e.done.Go(func() {
		if err := e.serve(); err != nil {
			r.Fail(err)
		}
	})
}

func (e *Entropy) Stop() {
	if e.queue == nil {
		return
	}
	e.stop.Store(true)
	e.queue.Wake()
	e.done.Wait()
	e.queue = nil
}

func (e *Entropy) serve() error {
	defer e.queue.Signal() // of what was pushed since the ring was empty last
	var c Chain
	var buf [4096]byte // between the source and memory that the guest may change meanwhile
	for {
		e.queue.Wait()
		for {
			if e.stop.Load() {
				return nil
			}
			ok, err := e.queue.Pop(&c)
			if err != nil {
				return err
			}
			if !ok {
				e.queue.Signal()
				if !e.queue.Rearm() {
					break
				}
				continue
			}
			n, size := 0, min(Len(c.Writable), maxEntropy)
			for n < size {
				part := buf[:min(len(buf), size-n)]
				if _, err := io.ReadFull(e.source, part); err != nil {
					e.queue.Push(c.Head, uint32(n))
					return fmt.Errorf("entropy source: %w", err)
				}
				n += Scatter(c.Writable, part, n)
			}
			e.queue.Push(c.Head, uint32(n))
		}
	}
}
