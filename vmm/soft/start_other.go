//go:build !linux

package soft

import (
	"context"
	"errors"
	"fmt"

	"capsid/vmm"
)

// Start is for Linux hosts: elsewhere there is no way yet to hand QEMU its files open and to make it die with its owner.
func (Backend) Start(context.Context, vmm.Config) (vmm.Machine, error) {
	return nil, fmt.Errorf("%w: software emulation: %w", vmm.ErrStart, errors.ErrUnsupported)
}
