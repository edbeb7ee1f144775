package virtio

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestEntropy(t *testing.T) {
	for name, wanted := range map[string]uint64{"all": allFeatures, "least": FeatureVersion1} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, NewEntropy(rand.Reader))
			if id := d.read(regDeviceID); id != typeEntropy {
				t.Errorf("device %d", id)
			}
			d.start(wanted)
			seen := map[string]bool{}
			for range 300 { // several times around the ring
				b := d.queues[0].do(nil, 64)
				if len(b) != 64 || seen[string(b)] {
					t.Fatalf("got %x", b)
				}
				seen[string(b)] = true
			}
		})
	}
}

func TestEntropyBounds(t *testing.T) {
	source := bytes.Repeat([]byte{0xa5}, 4*maxEntropy)
	for _, c := range []struct{ out, in, want int }{
		{0, 1, 1}, {0, 4095, 4095}, {0, 4097, 4097}, {0, maxEntropy, maxEntropy}, {0, maxEntropy + 1, maxEntropy}, {0, 16 << 20, maxEntropy}, {16, 0, 0}, {16, 8, 8},
	} {
		d := newDriver(t, NewEntropy(bytes.NewReader(source)))
		d.start(allFeatures)
		got := d.queues[0].do(make([]byte, c.out), c.in)
		if !bytes.Equal(got, source[:c.want]) {
			t.Errorf("%+v: got %d bytes", c, len(got))
		}
	}
}

// A source that fails stops the device.
func TestEntropySource(t *testing.T) {
	broken := errors.New("broken")
	d := newDriver(t, NewEntropy(io.MultiReader(bytes.NewReader(make([]byte, 8)), iotest.ErrReader(broken))))
	d.start(allFeatures)
	q := d.queues[0]
	if n := len(q.do(nil, 8)); n != 8 {
		t.Errorf("%d bytes", n)
	}
	q.add(false, d.room(8))
	q.kick()
	if err := d.fault(); !errors.Is(err, broken) {
		t.Error(err)
	}
}
