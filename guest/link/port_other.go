//go:build !linux

package link

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// PortName is the name of the virtio-serial port that carries the link.
const PortName = "capsid.link"

// OpenPort is for guests, which run Linux.
func OpenPort(context.Context) (io.ReadWriteCloser, error) {
	return nil, fmt.Errorf("link port: %w", errors.ErrUnsupported)
}
