package virtio

import (
	"errors"
	"fmt"
)

// ErrState: a saved state that no device of this kind can have had.
var ErrState = errors.New("saved device state")

// State is all there is to a transport and its device that has stopped, beside what lies in guest memory.
type State struct {
	Type           uint32
	Status         uint32
	FeaturesSel    uint32
	DriverSel      uint32
	DriverFeatures uint64
	QueueSel       uint32
	Queues         []QueueState
	Interrupt      uint32
	Generation     uint32
	Broken         bool
	Device         []byte `json:",omitempty"` // the device's own
}

// keeper is a Device that has a state of its own. Both are called while it has stopped.
type keeper interface {
	save() []byte
	restore([]byte) error
}

// Save is the state of a device that is paused.
func (m *MMIO) Save() (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running {
		return State{}, errors.New("device is not paused")
	}
	s := State{
		Type: m.dev.Type(), Status: m.status, FeaturesSel: m.featuresSel, DriverSel: m.driverSel, DriverFeatures: m.driverFeatures,
		QueueSel: m.queueSel, Queues: append([]QueueState(nil), m.setup...), Interrupt: m.interrupt.Load(), Generation: m.generation.Load(), Broken: m.broken,
	}
	for i, q := range m.queues {
		if q != nil {
			s.Queues[i] = q.State()
		}
	}
	if k, ok := m.dev.(keeper); ok {
		s.Device = k.save()
	}
	return s, nil
}

// Restore brings a new transport to a state that another one was saved in. It is paused then; its guest memory must be what it was.
func (m *MMIO) Restore(s State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = true
	if s.Type != m.dev.Type() || len(s.Queues) != len(m.sizes) {
		return fmt.Errorf("%w: a device of type %d with %d queues, not %d with %d", ErrState, s.Type, len(s.Queues), m.dev.Type(), len(m.sizes))
	}
	if s.DriverFeatures&^m.features() != 0 && s.Status&statusFeaturesOK != 0 {
		return fmt.Errorf("%w: features %#x", ErrState, s.DriverFeatures)
	}
	for i, q := range s.Queues {
		if q.Size > m.sizes[i] {
			return fmt.Errorf("%w: queue %d of %d places", ErrState, i, q.Size)
		}
	}
	m.status, m.featuresSel, m.driverSel, m.driverFeatures, m.queueSel = s.Status, s.FeaturesSel, s.DriverSel, s.DriverFeatures, s.QueueSel
	copy(m.setup, s.Queues)
	m.interrupt.Store(s.Interrupt)
	m.generation.Store(s.Generation)
	m.broken = s.Broken
	if k, ok := m.dev.(keeper); ok {
		if err := k.restore(s.Device); err != nil {
			return err
		}
	}
	if m.status&statusDriverOK == 0 || m.broken {
		return nil
	}
	return m.makeQueues()
}
