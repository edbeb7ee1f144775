//go:build !linux

package link

import (
	"context"
	"errors"
	"fmt"
)

// PortName is the name of the virtio-serial port that carries the link.
const PortName = "capsid.link"

// Open is for guests, which run Linux.
func Open(context.Context) (Link, error) {
	return nil, fmt.Errorf("link: %w", errors.ErrUnsupported)
}
