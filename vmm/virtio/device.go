// Package virtio has the devices of a machine: split virtqueues, the memory-mapped transport, and the device models behind it. It knows nothing of
// processors: whoever runs them hands it the guest's accesses to a transport's registers and the guest's RAM. Section numbers are of the Virtual I/O Device
// (VIRTIO) specification, version 1.2.
//
// The guest is hostile. Each descriptor is read once, all lengths are bounded before memory is taken, and a driver that breaks the rules
// finds its device stopped (DEVICE_NEEDS_RESET) and the fault reported; nothing else happens.
package virtio

// Feature bits that every device offers (§6).
const (
	FeatureIndirect = 1 << 28
	FeatureEventIdx = 1 << 29
	FeatureVersion1 = 1 << 32

	commonFeatures = FeatureIndirect | FeatureEventIdx | FeatureVersion1
)

// Device types (§5).
const (
	typeBlock   = 2
	typeConsole = 3
	typeEntropy = 4
	typeBalloon = 5
	typeVsock   = 19
)

// Device is a device model. The transport calls one method at a time, but for those of the configuration space, which may come while the device runs.
type Device interface {
	// Type is the device type.
	Type() uint32
	// Features are the bits that it offers beside those of every device.
	Features() uint64
	// QueueSizes are the greatest sizes of its queues, each a power of two ≤ MaxQueueSize.
	QueueSizes() []uint16
	// ReadConfig fills p from the configuration space at off; what is past its end reads as zero. WriteConfig is its counterpart; what
	// cannot be written is ignored.
	ReadConfig(p []byte, off uint64)
	WriteConfig(p []byte, off uint64)
	// Start begins work: the driver is ready, or the machine goes on after Stop. It must not block.
	Start(Running)
	// Stop ends all work: when it returns, no worker is left and what was taken from the queues has been pushed. The device may be started
	// again, with the same queues. A device that was not started may be stopped.
	Stop()
	// Reset forgets what the driver's session had: it begins anew. The device has stopped.
	Reset()
}

// Running is what a started device works with.
type Running struct {
	Features uint64   // those that the driver took
	Queues   []*Queue // nil for one that the driver did not make
	Memory   *Memory
	// Fail reports a fault of the driver. The transport stops the device, soon; a worker that calls it returns.
	Fail func(error)
	// ConfigChanged tells the driver to read the configuration space again.
	ConfigChanged func()
}

// readConfig copies from a configuration space laid out in space.
func readConfig(p, space []byte, off uint64) {
	clear(p)
	if off < uint64(len(space)) {
		copy(p, space[off:])
	}
}
