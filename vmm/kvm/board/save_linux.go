package board

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"

	"capsid/vmm/virtio"
)

// ErrState: files that are no saved machine of this kind, or a damaged one.
var ErrState = errors.New("saved machine")

// stateVersion changes with whatever a state consists of. Another one is refused: there is no guessing about processors.
const stateVersion = 1

// maxState bounds a saved state: sixteen processors take less than a megabyte.
const maxState = 16 << 20

// state is a machine beside its memory and its disks.
type state struct {
	Version    int
	Arch       string
	CPUs       int
	Memory     int64
	Devices    []virtio.State
	Processors processorsState
}

// Snapshot is where one goes.
type Snapshot struct {
	RAM   *os.File   // an empty file, gets the memory
	State *os.File   // an empty file, gets all the rest
	Tops  []*os.File // one for each disk that is written: it is frozen, and what comes goes here. The machine makes copies.
	Stay  bool       // at rest
	// Frozen is called when the machine goes on, before anything is written; it may be nil.
	Frozen func()
}

// Snapshot freezes the machine, lets it go on and writes what was frozen. diff says that the memory is only what differs from that of the first snapshot of
// this machine, or of the one that it was restored from; see Restored. A machine that was paused stays so.
func (b *Board) Snapshot(s Snapshot) (diff bool, err error) {
	b.pausing.Lock()
	defer b.pausing.Unlock()
	resting := b.resting
	b.rest()
	memory, text, err := b.freeze(s)
	if !resting && (err != nil || !s.Stay) {
		b.goOn()
	}
	if err != nil {
		return false, err
	}
	defer memory.close()
	if s.Frozen != nil {
		s.Frozen()
	}
	if err := memory.write(s.RAM, int64(len(b.ram.bytes))); err != nil {
		return false, fmt.Errorf("write memory: %w", err)
	}
	b.ram.kept = true
	if err := b.syncDisks(); err != nil {
		return false, err
	}
	if _, err := s.State.Write(text); err != nil {
		return false, fmt.Errorf("write state: %w", err)
	}
	return memory.diff(), s.State.Sync()
}

func (b *Board) freeze(s Snapshot) (frozen, []byte, error) {
	st := state{Version: stateVersion, Arch: runtime.GOARCH, CPUs: len(b.vcpus), Memory: int64(len(b.ram.bytes))}
	for i, slot := range b.bus.slots {
		d, err := slot.Save()
		if err != nil {
			return frozen{}, nil, fmt.Errorf("device %d: %w", i, err)
		}
		st.Devices = append(st.Devices, d)
	}
	var err error
	if st.Processors, err = b.saveProcessors(); err != nil {
		return frozen{}, nil, err
	}
	text, err := json.Marshal(st)
	if err != nil {
		return frozen{}, nil, err
	}
	z, err := b.ram.freeze()
	if err != nil {
		return frozen{}, nil, err
	}
	// The last step, for it cannot be undone.
	if err := b.freezeDisks(s.Tops); err != nil {
		z.close()
		return frozen{}, nil, err
	}
	return z, text, nil
}

// Restored is what a machine is restored from.
type Restored struct {
	Base  *os.File // the memory of a snapshot that is not a diff
	Diff  *os.File // nil, or that of a later one
	State *os.File
}

// Restore makes a machine that goes on where a snapshot was taken. It rests until Resume. Of cfg, the kernel, the initramfs and the parameters are not
// used. Errors that are the files' fault wrap ErrState.
func Restore(cfg Config, from Restored) (*Board, error) {
	info, err := from.State.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("%w: %d bytes", ErrState, info.Size())
	}
	text := make([]byte, info.Size())
	if _, err := from.State.ReadAt(text, 0); err != nil {
		return nil, fmt.Errorf("%w: read: %w", ErrState, err)
	}
	var st state
	if err := json.Unmarshal(text, &st); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	switch {
	case st.Version != stateVersion:
		return nil, fmt.Errorf("%w: version %d; this program has %d", ErrState, st.Version, stateVersion)
	case st.Arch != runtime.GOARCH:
		return nil, fmt.Errorf("%w: of %s, not %s", ErrState, st.Arch, runtime.GOARCH)
	case st.CPUs != cfg.CPUs || st.Memory != cfg.Memory:
		return nil, fmt.Errorf("%w: %d processors and %d bytes of memory, not %d and %d", ErrState, st.CPUs, st.Memory, cfg.CPUs, cfg.Memory)
	}
	return build(cfg, func() (*ram, error) { return restoreRAM(cfg.Memory, from.Base, from.Diff, cfg.Pagemap) }, &st)
}

func (b *Board) restoreDevices(devices []virtio.State) error {
	if len(devices) != len(b.bus.slots) {
		return fmt.Errorf("%w: %d devices, not %d", ErrState, len(devices), len(b.bus.slots))
	}
	for i, slot := range b.bus.slots {
		if err := slot.Restore(devices[i]); err != nil {
			return fmt.Errorf("%w: device %d: %w", ErrState, i, err)
		}
	}
	return nil
}
