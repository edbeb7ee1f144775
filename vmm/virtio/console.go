package virtio

import (
	"io"
	"time"
)

const (
	// featureEmergWrite is VIRTIO_CONSOLE_F_EMERG_WRITE (§5.3.3): the driver may write a byte before it has queues, or when it has them no more.
	featureEmergWrite = 1 << 2
	// emergWrite is where it does (§5.3.4: le16 cols, le16 rows, le32 max_nr_ports, le32 emerg_wr).
	emergWrite = 8

	consoleReceive  = 0
	consoleTransmit = 1

	// flushTime is how long a device that stops waits for its writer. A reader that is alive takes what is there in a blink.
	flushTime = time.Second
)

// Console is a console device (§5.3) with one port, hvc0, that the guest can only write to. What it writes is of any bytes: whoever
// shows them takes out what commands a terminal.
type Console struct {
	out  spool
	work *workers
}

// NewConsole writes to w what the guest writes. A w that blocks does not hold up the guest, which spins on one of its processors until
// the device has taken its bytes: a bounded amount waits, then the oldest is lost and w is told so. No write comes after one that failed. The device
// holds a goroutine in w while it blocks; closing w ends it.
func NewConsole(w io.Writer) *Console { return &Console{out: spool{to: w}} }

// Type is that of a console.
func (c *Console) Type() uint32 { return typeConsole }

// Features is the emergency write.
func (c *Console) Features() uint64 { return featureEmergWrite }

// QueueSizes are those of the port's queues. Linux fills the receive queue with a page for each place, so it is short.
func (c *Console) QueueSizes() []uint16 { return []uint16{consoleReceive: 16, consoleTransmit: 128} }

// ReadConfig reads zeros: no field of §5.3.4 that can be read is there without its feature.
func (c *Console) ReadConfig(p []byte, off uint64) { readConfig(p, nil, off) }

// WriteConfig takes an emergency write: the low byte of what is written.
func (c *Console) WriteConfig(p []byte, off uint64) {
	if off == emergWrite && len(p) > 0 {
		c.out.add(p[:1])
	}
}

// Start serves the transmit queue. The buffers of the receive queue stay where they are.
func (c *Console) Start(r Running) {
	c.work = &workers{}
	c.work.serve(r.Queues[consoleTransmit], r.Fail, func(chain *Chain) (uint32, error) {
		// Of more than the spool holds, the end is what it would keep.
		skip := max(0, Len(chain.Readable)-spoolSize)
		for _, b := range chain.Readable {
			n := min(skip, len(b))
			skip -= n
			c.out.add(b[n:])
		}
		return 0, nil
	})
}

// Stop waits a moment for the writer, so that what the guest wrote last is not lost with this process.
func (c *Console) Stop() {
	c.work.stop()
	c.work = nil
	c.out.flush(flushTime)
}

// Reset has nothing to forget.
func (c *Console) Reset() {}
