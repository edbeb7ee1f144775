package board

import (
	"errors"
	"fmt"

	"capsid/vmm/kvm/ioctl"
)

// errSnapshots: on this processor machines are not saved yet; the backend says so of itself.
var errSnapshots = fmt.Errorf("snapshots on arm64: %w", errors.ErrUnsupported)

type processorsState struct{}

func (b *Board) saveProcessors() (processorsState, error) { return processorsState{}, errSnapshots }

func (b *Board) restoreProcessors(processorsState) error { return errSnapshots }

func (b *Board) keepInMind(*ioctl.System) error { return nil }

func (b *Board) renew() error { return errSnapshots }
