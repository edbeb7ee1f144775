//go:build !linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"capsid/vmm"
)

// Probe says that there is no KVM.
func (Backend) Probe(context.Context) vmm.Probe {
	return vmm.Probe{Reason: "KVM is of Linux; this is " + runtime.GOOS}
}

// Start fails.
func (Backend) Start(context.Context, vmm.Config) (vmm.Machine, error) {
	return nil, fmt.Errorf("%w: KVM: %w", vmm.ErrStart, errors.ErrUnsupported)
}

// Main fails.
func Main() int { return 1 }
