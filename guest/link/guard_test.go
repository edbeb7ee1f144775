package link

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// script is the guest's side of a serial port: bytes that were made up, and what comes back is not read by anyone.
type script struct {
	io.Reader
	closed chan struct{}
}

func (s script) Write(p []byte) (int, error) { return len(p), nil }
func (s script) Close() error                { close(s.closed); return nil }

var testNonce = nonce{1, 2, 3, 4, 5, 6, 7, 8}

func frames(fs ...frame) []byte {
	var b []byte
	for _, f := range fs {
		b = f.append(b)
		b = append(b, make([]byte, min(f.body(), 2*maxFrame))...)
		b = append(b, testNonce[:]...)
	}
	return b
}

// hostOf is the host of a guest that answers the mark and then sends b.
func hostOf(b []byte, l limits) *Mux {
	all := append(append([]byte("noise"+markGuest[:7]+markGuest), testNonce[:]...), b...)
	return startMux(script{strings.NewReader(string(all)), make(chan struct{})}, Host, l, testNonce, longZeros)
}

func TestHostileFrames(t *testing.T) {
	syn := frame{kind: typeWindowUpdate, flags: flagSYN, id: 2}
	port := frame{kind: typeData, id: 2, length: 4}
	tests := []struct {
		name  string
		bytes []byte
		fatal bool
	}{
		{"nothing", nil, false},
		{"stream and port", frames(syn, port), false},
		{"half a header", frames(syn)[:5], false},
		{"half a body", frames(syn, port)[:2*headerSize+tailSize+2], false},
		{"other version", append([]byte{1}, frames(syn)[1:]...), true},
		{"other session", append(frames(syn)[:headerSize], make([]byte, nonceSize)...), true},
		{"unknown type", frames(frame{kind: 9, id: 2}), true},
		{"ping", frames(frame{kind: 2, flags: flagSYN, length: 7}), true},
		{"go away", frames(frame{kind: 3}), true},
		{"unknown flag", frames(frame{kind: typeWindowUpdate, flags: 16, id: 2}), true},
		{"stream zero", frames(frame{kind: typeWindowUpdate, flags: flagSYN}), true},
		{"number of the host's", frames(frame{kind: typeWindowUpdate, flags: flagSYN, id: 1}), true},
		{"opened twice", frames(syn, syn), true},
		{"opened and reset", frames(syn, frame{kind: typeWindowUpdate, flags: flagSYN | flagRST, id: 2}), true},
		{"opened by data", frames(frame{kind: typeData, flags: flagSYN, id: 2, length: 4}), true},
		{"data with an end", frames(syn, frame{kind: typeData, flags: flagFIN, id: 2, length: 4}), true},
		{"huge frame", frames(syn, frame{kind: typeData, id: 2, length: 1 << 31}), true},
		{"huge window", frames(syn, frame{kind: typeWindowUpdate, id: 2, length: 1 << 31}), true},
		{"closed twice", frames(syn, frame{kind: typeWindowUpdate, flags: flagFIN, id: 2}, frame{kind: typeWindowUpdate, flags: flagFIN, id: 2}), true},
		{"data after the end", frames(syn, frame{kind: typeWindowUpdate, flags: flagFIN, id: 2}, port), true},
		{"unasked acknowledgement", frames(syn, frame{kind: typeWindowUpdate, flags: flagACK, id: 2}), true},
		{"data of no stream", frames(frame{kind: typeData, id: 8, length: 1000}, frame{kind: typeData, id: 7, length: 1000}), false},
		{"reset of no stream", frames(frame{kind: typeWindowUpdate, flags: flagRST, id: 8}), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := hostOf(test.bytes, defaultLimits)
			defer m.Close()
			<-m.Done()
			if fatal := errors.Is(m.Err(), ErrProtocol); fatal != test.fatal {
				t.Errorf("err: %v", m.Err())
			}
		})
	}
}

// Until a stream is taken up nobody would count its bytes down, so there may be no more of them than the port takes.
func TestDataBeforeClaim(t *testing.T) {
	g := newGuard(newWire(script{strings.NewReader(""), make(chan struct{})}), Host, testNonce, defaultLimits)
	defer g.done.Wait()
	defer g.Close()
	send := func(f frame) error {
		_, err := g.admit(f)
		return err
	}
	if err := errors.Join(
		send(frame{kind: typeWindowUpdate, flags: flagSYN, id: 2}),
		send(frame{kind: typeData, id: 2, length: portSize}),
	); err != nil {
		t.Fatal(err)
	}
	if err := send(frame{kind: typeData, id: 2, length: 1}); !errors.Is(err, ErrProtocol) {
		t.Errorf("err: %v", err)
	}
}

// FuzzGuard plays a guest that sends anything. Whatever it is, the link ends when the bytes do and its bounds hold.
func FuzzGuard(f *testing.F) {
	syn := frame{kind: typeWindowUpdate, flags: flagSYN, id: 2}
	f.Add(frames(syn, frame{kind: typeData, id: 2, length: 4}))
	f.Add(frames(syn, frame{kind: typeWindowUpdate, flags: flagFIN, id: 2}))
	f.Add(frames(syn, frame{kind: typeWindowUpdate, flags: flagRST, id: 2}, syn))
	f.Add(frames(frame{kind: typeWindowUpdate, flags: flagACK, id: 1}, frame{kind: typeData, id: 1, length: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := limits{streams: 4, unread: 1 << 10, resets: 4}
		m := hostOf(b, l)
		defer m.Close()
		lis, err := m.Listen(0)
		if err == nil {
			go func() {
				for {
					c, err := lis.Accept()
					if err != nil {
						return
					}
					go func(c net.Conn) {
						io.Copy(io.Discard, c)
						c.Close()
					}(c)
				}
			}()
		}
		go m.Dial(t.Context(), 1)
		var g *guard
		if s, err := m.session(t.Context()); err == nil {
			g = s.guard
		}
		<-m.Done()
		if g == nil {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.inbound > l.streams || g.inbound < 0 || len(g.remote) > l.resets {
			t.Errorf("%d streams, %d resets", g.inbound, len(g.remote))
		}
	})
}
