package virtio

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a writer whose reader can be slow or gone.
type sink struct {
	mu   sync.Mutex
	got  bytes.Buffer
	gate chan struct{} // each Write waits for one item, if not nil
	fail error
	busy chan struct{} // gets an item when a Write waits
}

func (s *sink) Write(p []byte) (int, error) {
	if s.gate != nil {
		s.busy <- struct{}{}
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	return s.got.Write(p)
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

func TestConsole(t *testing.T) {
	for name, wanted := range map[string]uint64{"all": allFeatures, "least": FeatureVersion1} {
		t.Run(name, func(t *testing.T) {
			var out sink
			dev := NewConsole(&out)
			d := newDriver(t, dev)
			if id := d.read(regDeviceID); id != typeConsole {
				t.Errorf("device %d", id)
			}
			d.start(wanted)
			// Linux fills the receive queue: nothing comes back.
			for {
				if _, ok := d.queues[consoleReceive].add(false, d.room(64)); !ok {
					break
				}
			}
			d.queues[consoleReceive].kick()
			q := d.queues[consoleTransmit]
			var want strings.Builder
			for i := range 500 {
				line := strings.Repeat("x", i) + "\r\n"
				want.WriteString(line)
				if n := len(q.do([]byte(line), 16)); n != 0 {
					t.Fatalf("the device wrote %d bytes", n)
				}
			}
			// Several buffers of one request keep their order.
			head, _ := q.add(false, d.put([]byte("one ")), d.put([]byte("two ")), d.put([]byte("three")))
			q.kick()
			if got, _ := q.wait(); got != head {
				t.Errorf("%d returned for %d", got, head)
			}
			want.WriteString("one two three")
			d.dev.Pause() // what was written before has arrived when it returns
			if got := out.text(); got != want.String() {
				t.Errorf("got %d bytes, want %d: %.100q", len(got), want.Len(), got)
			}
			d.dev.Resume()
			q.do([]byte("!"), 0)
			d.dev.Pause()
			if got := out.text(); got != want.String()+"!" {
				t.Errorf("after a pause: %q", got[max(0, len(got)-20):])
			}
			d.dev.Resume()
			if _, _, ok := d.queues[consoleReceive].get(); ok {
				t.Error("a receive buffer was returned")
			}
		})
	}
}

// The emergency write needs neither queues nor a driver (§5.3.4).
func TestConsoleEmergency(t *testing.T) {
	var out sink
	dev := NewConsole(&out)
	d := newDriver(t, dev)
	for _, b := range []byte("panic") {
		d.write(regConfig+emergWrite, 0xffffff00|uint32(b))
	}
	d.write(regConfig, 'x')
	d.write(regConfig+emergWrite+4, 'x')
	d.dev.Write(regConfig+emergWrite, nil)
	dev.Stop()
	if got := out.text(); got != "panic" {
		t.Errorf("%q", got)
	}
	if b := d.readConfig(0, 64); !bytes.Equal(b, make([]byte, 64)) {
		t.Errorf("configuration: %x", b)
	}
}

// A reader that hangs holds up neither the guest nor a pause for ever, costs a bounded amount of memory, and gets the newest.
func TestConsoleReaderHangs(t *testing.T) {
	out := sink{gate: make(chan struct{}), busy: make(chan struct{}, 1)}
	dev := NewConsole(&out)
	d := newDriver(t, dev)
	d.start(allFeatures)
	q := d.queues[consoleTransmit]
	q.do([]byte("first "), 0)
	<-out.busy
	line := bytes.Repeat([]byte("y"), 4000)
	for range 4 * spoolSize / len(line) {
		q.do(line, 0)
	}
	q.do(bytes.Repeat([]byte("z"), 3*spoolSize), 0)
	q.do([]byte("the last line"), 0)
	d.dev.Pause()
	dev.out.mu.Lock()
	if n := cap(dev.out.waiting); n > 4*spoolSize {
		t.Errorf("%d bytes are held", n)
	}
	dev.out.mu.Unlock()
	close(out.gate)
	go func() {
		for range out.busy {
		}
	}()
	dev.Stop()
	close(out.busy)
	got := out.text()
	if !strings.HasPrefix(got, "first \n[") || !strings.Contains(got, " bytes were lost here]\nzzz") || !strings.HasSuffix(got, "zthe last line") {
		t.Errorf("%d bytes: %.60q … %q", len(got), got, got[max(0, len(got)-20):])
	}
	if len(got) < spoolSize/2 || len(got) > spoolSize+100 {
		t.Errorf("%d bytes arrived", len(got))
	}
}

// The first error is the end of the output, and not of the guest.
func TestConsoleReaderIsGone(t *testing.T) {
	out := sink{fail: io.ErrClosedPipe}
	dev := NewConsole(&out)
	d := newDriver(t, dev)
	d.start(allFeatures)
	q := d.queues[consoleTransmit]
	q.do([]byte("one"), 0)
	d.dev.Pause()
	out.mu.Lock()
	out.fail = nil
	out.mu.Unlock()
	d.dev.Resume()
	q.do([]byte("two"), 0)
	d.dev.Pause()
	if got := out.text(); got != "" {
		t.Errorf("%q", got)
	}
	if len(dev.out.waiting) > 0 {
		t.Error("what nobody reads is kept")
	}
}

// flush ends by its limit when the reader hangs, and the goroutine does when the writer is closed.
func TestSpoolFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		s := spool{to: w}
		s.flush(time.Hour)
		s.add([]byte("text"))
		start := time.Now()
		s.flush(time.Minute)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("flushed after %v", d)
		}
		go func() {
			time.Sleep(time.Second)
			io.Copy(io.Discard, r)
		}()
		s.flush(time.Hour)
		if d := time.Since(start); d != time.Minute+time.Second {
			t.Errorf("flushed after %v", d)
		}
		s.add([]byte("more"))
		w.Close()
		r.Close()
		synctest.Wait() // the test fails if a goroutine is left
	})
}

// Whatever a driver puts into the rings, the device answers it or stops.
func FuzzConsole(f *testing.F) {
	f.Add(uint16(2), []byte("\x00\x10\x40\x00\x00\x00\x01\x00\x00\x20\x00\x10\x00\x00\x01\x02"))
	f.Add(uint16(99), []byte("\x01\x00\x10\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, ahead uint16, table []byte) {
		var out sink
		d := newDriver(t, NewConsole(&out))
		d.start(allFeatures, 16)
		d.queues[consoleTransmit].fuzz(ahead, table)
		d.queues[consoleReceive].fuzz(ahead, table)
		d.dev.Pause()
		d.onlyRingFaults()
	})
}
