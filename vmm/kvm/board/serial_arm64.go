package board

import "io"

// serial is what a kernel needs of a PL011 to print before it has a driver (drivers/tty/serial/amba-pl011.c, pl011_early_write): the byte to send and
// flags that say that all is sent. It has no interrupt and reads nothing.
type serial struct{ out io.Writer }

// Registers (ARM DDI 0183, 3.2).
const (
	serialSize  = 0x1000
	serialData  = 0x00
	serialFlags = 0x18
	serialEmpty = 0x90 // TXFE | RXFE
)

// Write serves an access of the guest.
func (s *serial) Write(off uint64, p []byte) {
	if off == serialData && len(p) > 0 {
		_, _ = s.out.Write(p[:1])
	}
}

// Read serves an access of the guest.
func (s *serial) Read(off uint64, p []byte) {
	clear(p)
	if off == serialFlags && len(p) > 0 {
		p[0] = serialEmpty
	}
}
