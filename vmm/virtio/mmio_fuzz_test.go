package virtio

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"io"
	"os"
	"testing"
)

// fuzzDevices are all kinds of devices.
var fuzzDevices = []func(t *testing.T) Device{
	func(t *testing.T) Device { return &echo{} },
	func(t *testing.T) Device {
		f, _ := testFile(t, 64<<10, true)
		b, err := NewBlock(BlockConfig{Disk: testStack(t, f, false), Serial: "fuzz"})
		if err != nil {
			t.Fatal(err)
		}
		return b
	},
	func(t *testing.T) Device { return NewEntropy(rand.Reader) },
	func(t *testing.T) Device { return NewConsole(io.Discard) },
	func(t *testing.T) Device { return NewBalloon(func([]byte) error { return nil }, true) },
	func(t *testing.T) Device {
		return NewVsock(VsockConfig{CID: 3, Request: func(_ uint32, far *os.File, decide func(bool)) {
			far.Close()
			decide(false)
		}})
	},
}

// Whatever is written to a device's registers, to its configuration space and to RAM, in whatever order: it can be paused, closed, and reset, and then be
// set up.
func FuzzMMIO(f *testing.F) {
	for i := range fuzzDevices {
		f.Add(uint8(i), []byte("\x05\x08\x06\x07\x00\x00\x01\x06\x07\x01\x00\x01\x08\x09\x05\x04\x06"))
		f.Add(uint8(i), []byte("\x05\x08\x04\x00\x00\x00\x10\x00\x00\x00\x04\x00\x08\x00\x00\x02\x00\x00\x06\x07\x00\x00\x01\x07\x00\x03\x02"))
		f.Add(uint8(i), []byte("\x00\x0c\x01\x00\x00\x00\x00\x0c\x03\x00\x00\x00\x01\x00\x02\x04\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff\x00\x0c\x0b\x00\x00\x00"))
	}
	registers := []uint64{
		regDeviceFeaturesSel, regDriverFeatures, regDriverFeaturesSel, regQueueSel, regQueueSize, regQueueReady, RegQueueNotify, regInterruptACK,
		regDescLow, regDescHigh, regAvailLow, regUsedLow, regStatus, regAvailHigh, regUsedHigh, regConfig, regConfig + 8,
	}
	f.Fuzz(func(t *testing.T, device uint8, script []byte) {
		d := newDriver(t, fuzzDevices[int(device)%len(fuzzDevices)](t))
		take := func(n int) uint64 {
			var b [8]byte
			script = script[copy(b[:n], script):]
			return binary.LittleEndian.Uint64(b[:])
		}
		for len(script) > 0 {
			q := d.queues[int(device)%len(d.queues)]
			switch take(1) % 10 {
			case 0:
				d.write(registers[take(1)%uint64(len(registers))], uint32(take(4)))
			case 1:
				p := make([]byte, 8)
				d.dev.Write(take(2)%0x200, p[:copy(p, binary.LittleEndian.AppendUint64(nil, take(8)))])
			case 2:
				p := bytes.Repeat([]byte{0xee}, int(take(1)%17))
				d.dev.Read(take(2)%0x200, p)
			case 3:
				if take(1)%2 == 0 {
					d.dev.Pause()
				} else {
					d.dev.Resume()
				}
			case 4: // RAM, at first where the rings are
				off := take(2)
				if base := uint64(highRAM); take(1)%4 == 0 {
					off += 1 << 20
				} else {
					off += base
				}
				binary.LittleEndian.PutUint32(d.bytes(off, 4), uint32(take(4)))
			case 5: // as far as the queues
				d.negotiate(take(1)<<28 | FeatureVersion1)
				for _, q := range d.queues {
					q.lay(8)
					q.register()
					d.write(regQueueReady, 1)
				}
			case 6:
				d.write(regStatus, 15)
			case 7: // a request
				if q.availWord != nil {
					i := uint16(take(1)) % q.size
					q.setDesc(i, descriptor{1<<20 + take(1)<<8, uint32(take(1)), uint16(take(1)) % 8, uint16(take(1)) % 9})
					q.offer(i)
				}
			case 8:
				if q.availWord != nil {
					q.offer(uint16(take(1)) % 9)
				}
				for i := range d.queues {
					d.write(RegQueueNotify, uint32(i))
				}
			case 9:
				d.reset()
			}
			for len(d.faults) > 8 { // one for each time that it was set up
				<-d.faults
			}
		}
		d.dev.Resume()
		d.start(allFeatures)
		if status := d.read(regStatus); status != 15 {
			t.Errorf("status %#x", status)
		}
	})
}
