package board

import "io"

// serial is what a kernel needs of a 16550 to print before it has a driver (arch/x86/kernel/early_printk.c): the byte to send and a line that is
// always free. It has no interrupt and reads nothing.
type serial struct{ out io.Writer }

const (
	com1     = 0x3f8
	com1Size = 8

	serialData       = 0
	serialLineStatus = 5
	serialFree       = 0x60 // THRE | TEMT
)

func (s *serial) write(reg uint16, v byte) {
	if reg == serialData {
		_, _ = s.out.Write([]byte{v})
	}
}

func (s *serial) read(reg uint16) byte {
	if reg == serialLineStatus {
		return serialFree
	}
	return 0
}
