package virtio

import (
	"fmt"
	"io"
)

// maxEntropy bounds what one request gets; a driver takes what it is given (§5.4.6.1). Linux asks for 64 bytes at a time.
const maxEntropy = 64 << 10

// Entropy is an entropy device (§5.4): it gives the guest random bytes. It keeps no state.
type Entropy struct {
	source io.Reader
	part   [4096]byte // between the source and memory that the guest may change meanwhile
	run    *workers
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
	e.run = new(workers)
	e.run.serve(r.Queues[0], r.Fail, e.fill)
}

func (e *Entropy) Stop() {
	e.run.stop()
	e.run = nil
}

func (e *Entropy) fill(c *Chain) (uint32, error) {
	n, size := 0, min(Len(c.Writable), maxEntropy)
	for n < size {
		part := e.part[:min(len(e.part), size-n)]
		if _, err := io.ReadFull(e.source, part); err != nil {
			return 0, fmt.Errorf("entropy source: %w", err)
		}
		n += Scatter(c.Writable, part, n)
	}
	return uint32(n), nil
}
