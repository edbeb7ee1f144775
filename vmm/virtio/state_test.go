package virtio

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// move brings the driver's device to another transport, as a restore does, and leaves that paused.
func (d *driver) move(to Device) {
	d.t.Helper()
	d.dev.Pause()
	d.handling.Lock()
	defer d.handling.Unlock()
	s, err := d.dev.Save()
	if err != nil {
		d.t.Fatal(err)
	}
	d.dev.Close()
	text, err := json.Marshal(s)
	if err != nil {
		d.t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(text, &back); err != nil {
		d.t.Fatal(err)
	}
	edge := func() {
		select {
		case d.irq <- struct{}{}:
		default:
		}
	}
	if d.dev, err = NewMMIO(to, d.mem, edge, func(err error) { d.faults <- err }); err != nil {
		d.t.Fatal(err)
	}
	if err := d.dev.Restore(back); err != nil {
		d.t.Fatal(err)
	}
}

// A device goes on elsewhere: with what the driver offered while it was at rest, and all the same many times.
func TestStateGoesOn(t *testing.T) {
	for name, wanted := range map[string]uint64{"all": allFeatures, "least": FeatureVersion1} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, NewEntropy(rand.Reader))
			d.start(wanted)
			q := d.queues[0]
			for range 50 {
				for range 7 {
					if b := q.do(nil, 16); len(b) != 16 {
						t.Fatalf("%d bytes", len(b))
					}
				}
				d.move(NewEntropy(rand.Reader))
				head, _ := q.add(false, d.room(32))
				q.kick()
				d.dev.Resume()
				if got, n := q.wait(); got != head || n != 32 {
					t.Fatalf("request %d of %d bytes, not %d of 32", got, n, head)
				}
			}
		})
	}
}

// An interrupt that the driver had not taken when the state was saved comes again.
func TestStateKeepsInterrupts(t *testing.T) {
	d := newDriver(t, NewEntropy(rand.Reader))
	d.start(allFeatures)
	d.dev.interrupt.Store(interruptConfig)
	d.move(NewEntropy(rand.Reader))
	d.dev.Resume()
	<-d.config
}

func TestStateOfDevices(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, make := range map[string]func() Device{
		"block":   func() Device { b, err := NewBlock(BlockConfig{Disk: testStack(t, file, false)}); _ = err; return b },
		"balloon": func() Device { return NewBalloon(func([]byte) error { return nil }, true) },
		"console": func() Device { return NewConsole(file) },
		"vsock":   func() Device { return NewVsock(VsockConfig{CID: 3}) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, make())
			d.start(allFeatures)
			d.move(make())
			d.dev.Resume()
			if s := d.read(regStatus); s&statusDriverOK == 0 || s&statusNeedsReset != 0 {
				t.Errorf("status %#x", s)
			}
			// A driver may begin anew with it.
			d.reset()
			d.start(allFeatures)
		})
	}
}

func TestStateIsRefused(t *testing.T) {
	d := newDriver(t, NewEntropy(rand.Reader))
	d.start(allFeatures)
	if _, err := d.dev.Save(); err == nil {
		t.Error("the state of a device at work was saved")
	}
	d.dev.Pause()
	good, err := d.dev.Save()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*State){
		"type":     func(s *State) { s.Type = typeBlock },
		"queues":   func(s *State) { s.Queues = nil },
		"features": func(s *State) { s.DriverFeatures |= 1 << 50 },
		"size":     func(s *State) { s.Queues[0].Size = 4096 },
		"address":  func(s *State) { s.Queues[0].Desc = 1 << 50 },
		"overlap":  func(s *State) { s.Queues[0].Used = s.Queues[0].Desc },
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			s.Queues = append([]QueueState(nil), good.Queues...)
			spoil(&s)
			m, err := NewMMIO(NewEntropy(rand.Reader), d.mem, func() {}, func(error) {})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Restore(s); !errors.Is(err, ErrState) && !errors.Is(err, ErrRing) {
				t.Errorf("err: %v", err)
			}
		})
	}
	for name, dev := range map[string]keeper{"balloon": NewBalloon(nil, true), "vsock": NewVsock(VsockConfig{CID: 3})} {
		for _, b := range [][]byte{nil, []byte("{"), make([]byte, 100)} {
			if err := dev.restore(b); !errors.Is(err, ErrState) {
				t.Errorf("%s, %q: %v", name, b, err)
			}
		}
	}
}
