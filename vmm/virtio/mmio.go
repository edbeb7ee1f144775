package virtio

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
)

// Registers of the transport (§4.2.2).
const (
	regMagic             = 0x000
	regVersion           = 0x004
	regDeviceID          = 0x008
	regVendorID          = 0x00c
	regDeviceFeatures    = 0x010
	regDeviceFeaturesSel = 0x014
	regDriverFeatures    = 0x020
	regDriverFeaturesSel = 0x024
	regQueueSel          = 0x030
	regQueueSizeMax      = 0x034
	regQueueSize         = 0x038
	regQueueReady        = 0x044
	// RegQueueNotify is where the driver writes a queue's number; see Kicks.
	RegQueueNotify   = 0x050
	regInterrupt     = 0x060
	regInterruptACK  = 0x064
	regStatus        = 0x070
	regDescLow       = 0x080
	regDescHigh      = 0x084
	regAvailLow      = 0x090
	regAvailHigh     = 0x094
	regUsedLow       = 0x0a0
	regUsedHigh      = 0x0a4
	regShmLenLow     = 0x0b0
	regShmBaseHigh   = 0x0bc
	regConfigVersion = 0x0fc
	regConfig        = 0x100
)

const (
	magic   = 0x74726976 // "virt"
	version = 2
	vendor  = 0x44535043 // "CPSD"
)

// Device status (§2.1).
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 64
	statusFailed      = 128
)

// Interrupt status (§4.2.2).
const (
	interruptUsed   = 1
	interruptConfig = 2
)

// MMIO puts a device behind registers in memory. Read and Write are the guest's accesses, on the threads of its processors.
type MMIO struct {
	dev    Device
	mem    *Memory
	irq    func()
	report func(error)
	sizes  []uint16
	kicks  []*event

	interrupt  atomic.Uint32
	generation atomic.Uint32

	mu             sync.Mutex
	status         uint32
	featuresSel    uint32
	driverSel      uint32
	driverFeatures uint64
	queueSel       uint32
	setup          []QueueState
	queues         []*Queue // since DRIVER_OK
	running        bool     // the device is started
	paused         bool
	broken         bool
	closed         bool
}

// NewMMIO wraps a device. irq raises its interrupt, an edge; report gets the faults of the driver, at most one for each time that it sets the
// device up. Both are called with locks held and must not call back.
func NewMMIO(dev Device, mem *Memory, irq func(), report func(error)) (*MMIO, error) {
	m := &MMIO{dev: dev, mem: mem, irq: irq, report: report, sizes: dev.QueueSizes()}
	m.setup = make([]QueueState, len(m.sizes))
	for range m.sizes {
		e, err := newEvent()
		if err != nil {
			for _, e := range m.kicks {
				e.close()
			}
			return nil, err
		}
		m.kicks = append(m.kicks, e)
	}
	m.clear()
	return m, nil
}

// Kicks are eventfds, one for each queue: a write of queue i's number to RegQueueNotify may signal the i-th instead of calling Write.
func (m *MMIO) Kicks() []int {
	fds := make([]int, len(m.kicks))
	for i, k := range m.kicks {
		fds[i] = k.fd
	}
	return fds
}

// clear is the state after a reset.
func (m *MMIO) clear() {
	m.status, m.featuresSel, m.driverSel, m.driverFeatures, m.queueSel = 0, 0, 0, 0, 0
	for i := range m.setup {
		m.setup[i] = QueueState{Size: m.sizes[i]}
	}
	m.queues, m.broken = nil, false
	m.interrupt.Store(0)
}

func (m *MMIO) features() uint64 { return m.dev.Features() | commonFeatures }

// Read serves an access of the guest: len(p) bytes at off.
func (m *MMIO) Read(off uint64, p []byte) {
	if off >= regConfig {
		m.dev.ReadConfig(p, off-regConfig)
		return
	}
	clear(p)
	if len(p) == 4 && off%4 == 0 {
		binary.LittleEndian.PutUint32(p, m.register(off))
	}
}

func (m *MMIO) register(off uint64) uint32 {
	switch off {
	case regMagic:
		return magic
	case regVersion:
		return version
	case regDeviceID:
		return m.dev.Type()
	case regVendorID:
		return vendor
	case regInterrupt:
		return m.interrupt.Load()
	case regConfigVersion:
		return m.generation.Load()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch off {
	case regDeviceFeatures:
		if m.featuresSel > 1 {
			return 0
		}
		return uint32(m.features() >> (32 * m.featuresSel))
	case regQueueSizeMax:
		if int(m.queueSel) < len(m.sizes) {
			return uint32(m.sizes[m.queueSel])
		}
	case regQueueReady:
		if q := m.selected(); q != nil && q.Ready {
			return 1
		}
	case regStatus:
		return m.status
	}
	if off >= regShmLenLow && off <= regShmBaseHigh {
		return 0xffffffff // there is no shared memory region (§4.2.2)
	}
	return 0
}

func (m *MMIO) selected() *QueueState {
	if int(m.queueSel) < len(m.setup) {
		return &m.setup[m.queueSel]
	}
	return nil
}

// Write serves an access of the guest.
func (m *MMIO) Write(off uint64, p []byte) {
	if off >= regConfig {
		m.dev.WriteConfig(p, off-regConfig)
		return
	}
	if len(p) != 4 || off%4 != 0 {
		return
	}
	v := binary.LittleEndian.Uint32(p)
	switch off {
	case RegQueueNotify:
		if int(v) < len(m.kicks) {
			m.kicks[v].signal()
		}
		return
	case regInterruptACK:
		m.interrupt.And(^v)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	switch off {
	case regDeviceFeaturesSel:
		m.featuresSel = v
	case regDriverFeaturesSel:
		m.driverSel = v
	case regDriverFeatures:
		if m.status&statusFeaturesOK == 0 && m.driverSel < 2 {
			shift := 32 * m.driverSel
			m.driverFeatures = m.driverFeatures&^(0xffffffff<<shift) | uint64(v)<<shift
		}
	case regQueueSel:
		m.queueSel = v
	case regStatus:
		m.setStatus(v)
	default:
		m.setQueue(off, v)
	}
}

// setQueue writes a register of the selected queue. Once ready, a queue is not changed (§4.2.2.2).
func (m *MMIO) setQueue(off uint64, v uint32) {
	q := m.selected()
	if q == nil || m.status&statusDriverOK != 0 {
		return
	}
	if off == regQueueReady {
		q.Ready = v == 1
		return
	}
	if q.Ready {
		return
	}
	low := func(p *uint64) { *p = *p&^0xffffffff | uint64(v) }
	high := func(p *uint64) { *p = *p&0xffffffff | uint64(v)<<32 }
	switch off {
	case regQueueSize:
		q.Size = 0 // what does not fit is refused when the queue is made
		if v <= uint32(m.sizes[m.queueSel]) {
			q.Size = uint16(v)
		}
	case regDescLow:
		low(&q.Desc)
	case regDescHigh:
		high(&q.Desc)
	case regAvailLow:
		low(&q.Avail)
	case regAvailHigh:
		high(&q.Avail)
	case regUsedLow:
		low(&q.Used)
	case regUsedHigh:
		high(&q.Used)
	}
}

// setStatus follows the driver through the initialisation (§3.1.1).
func (m *MMIO) setStatus(v uint32) {
	if v == 0 {
		m.stop()
		m.dev.Reset()
		m.clear()
		return
	}
	set := v &^ m.status & 0xff
	m.status |= set &^ (statusFeaturesOK | statusDriverOK | statusNeedsReset)
	if set&statusFeaturesOK != 0 && m.driverFeatures&^m.features() == 0 && m.driverFeatures&FeatureVersion1 != 0 {
		m.status |= statusFeaturesOK
	}
	if set&statusDriverOK != 0 && m.status&statusFeaturesOK != 0 && m.status&(statusFailed|statusNeedsReset) == 0 {
		m.status |= statusDriverOK
		if err := m.makeQueues(); err != nil {
			m.failed(err)
			return
		}
		m.start()
	}
}

func (m *MMIO) makeQueues() error {
	m.queues = make([]*Queue, len(m.setup))
	for i, s := range m.setup {
		if !s.Ready {
			continue
		}
		q, err := newQueue(m.mem, s, m.driverFeatures, m.kicks[i], func() { m.raise(interruptUsed) })
		if err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		m.queues[i] = q
	}
	return nil
}

// start lets the device work if the driver is ready and nothing else is in the way.
func (m *MMIO) start() {
	if m.running || m.paused || m.broken || m.closed || m.status&statusDriverOK == 0 {
		return
	}
	m.running = true
	queues := m.queues
	m.dev.Start(Running{
		Features: m.driverFeatures, Queues: queues, Memory: m.mem,
		Fail: func(err error) {
			// The worker that calls must end before the device can stop.
			go func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				// A reset may have been faster; then the fault is of a session that is over.
				if len(queues) > 0 && len(m.queues) > 0 && &queues[0] == &m.queues[0] {
					m.failed(err)
				}
			}()
		},
		ConfigChanged: func() {
			m.generation.Add(1)
			m.raise(interruptConfig)
		},
	})
}

func (m *MMIO) stop() {
	if m.running {
		m.dev.Stop()
		m.running = false
	}
}

// failed stops the device until the driver resets it (§2.1.2: the driver is told by a change of the configuration).
func (m *MMIO) failed(err error) {
	if m.broken || m.closed {
		return
	}
	m.broken = true
	m.stop()
	m.status |= statusNeedsReset
	m.generation.Add(1)
	m.raise(interruptConfig)
	m.report(err)
}

func (m *MMIO) raise(bit uint32) {
	m.interrupt.Or(bit)
	m.irq()
}

// Pause stops the device's work: what was taken from the queues is done when it returns. The guest's processors must rest. Resume
// lets it go on.
func (m *MMIO) Pause() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = true
	m.stop()
}

// Resume ends a pause.
func (m *MMIO) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = false
	m.start()
	if m.running {
		// Kicks that came meanwhile were taken by workers that were about to end.
		for _, k := range m.kicks {
			k.signal()
		}
	}
	if m.interrupt.Load() != 0 {
		// KVM may have been about to take the edge when the state was saved. One more than due does no harm.
		m.irq()
	}
}

// Close ends the device for good. Nobody may call Read or Write any more, and guest memory may be unmapped.
func (m *MMIO) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	m.stop()
	m.dev.Reset()
	for _, k := range m.kicks {
		k.close()
	}
}
