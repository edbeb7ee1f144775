package virtio

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// event is an eventfd(2) that blocks.
type event struct{ fd int }

func newEvent() (*event, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &event{fd}, nil
}

func (e *event) wait() {
	var b [8]byte
	for {
		if _, err := unix.Read(e.fd, b[:]); err != unix.EINTR {
			return
		}
	}
}

func (e *event) signal() {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], 1)
	for {
		if _, err := unix.Write(e.fd, b[:]); err != unix.EINTR {
			return
		}
	}
}

func (e *event) close() { unix.Close(e.fd) }
