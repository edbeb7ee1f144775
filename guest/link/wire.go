package link

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"sync"
)

// A session of a Mux begins with a mark of the host's: zeros, markHost, and a nonce of eight bytes none of which is zero. The guest answers with markGuest and
// that nonce, and every frame of the session, in both directions, is followed by the nonce.
//
// So a guest notices that its host is another, as it is after the machine was restored from a snapshot, wherever it was cut: the zeros, which are no
// fewer than a frame is long, end a frame of which it had read a part with a nonce that is none, or else are a frame that cannot be. What such a frame held reaches
// nobody. The host has read nothing yet: it passes over everything up to the answer, whose nonce no bytes from before can hold.
const (
	markHost  = "\xffcapsid link hst"
	markGuest = "\xffcapsid link gst"
	nonceSize = 8
	// tailSize is what follows a frame's body.
	tailSize = nonceSize
	// longZeros end any frame; shortZeros are for a guest that was not in the middle of one.
	longZeros  = headerSize + maxFrame + tailSize
	shortZeros = headerSize
)

// nonce tells sessions apart. It is no secret.
type nonce [nonceSize]byte

func newNonce() nonce {
	var n nonce
	rand.Read(n[:])
	for i := range n {
		for n[i] == 0 {
			rand.Read(n[i : i+1])
		}
	}
	return n
}

// wire is the pair of byte streams that sessions follow each other on.
type wire struct {
	raw  io.ReadWriteCloser
	in   *bufio.Reader
	send sync.Mutex // held while whole frames are written to raw
	once sync.Once
	err  error
}

func newWire(raw io.ReadWriteCloser) *wire {
	return &wire{raw: raw, in: bufio.NewReaderSize(raw, 2*maxFrame)}
}

func (w *wire) write(b []byte) error {
	w.send.Lock()
	defer w.send.Unlock()
	_, err := w.raw.Write(b)
	return err
}

func (w *wire) close() error {
	w.once.Do(func() { w.err = w.raw.Close() })
	return w.err
}

// begin writes the host's mark. The caller holds send.
func (w *wire) begin(n nonce, zeros int) error {
	_, err := w.raw.Write(append(append(make([]byte, zeros, zeros+len(markHost)+nonceSize), markHost...), n[:]...))
	return err
}

// answered passes over everything up to the guest's answer.
func (w *wire) answered(n nonce) error {
	return w.find(append([]byte(markGuest), n[:]...))
}

// begun passes over everything up to a mark of the host's, and gives its nonce. A mark that was cut is followed by the zeros of the next.
func (w *wire) begun() (n nonce, err error) {
	for {
		if err := w.find([]byte(markHost)); err != nil {
			return n, err
		}
		b, err := w.in.Peek(nonceSize)
		if err != nil {
			return n, err
		}
		if bytes.IndexByte(b, 0) < 0 {
			copy(n[:], b)
			_, err = w.in.Discard(nonceSize)
			return n, err
		}
	}
}

// find passes over everything up to the end of mark.
func (w *wire) find(mark []byte) error {
	for {
		b, err := w.in.Peek(len(mark))
		if err != nil {
			return err
		}
		if bytes.Equal(b, mark) {
			_, err := w.in.Discard(len(mark))
			return err
		}
		b, _ = w.in.Peek(w.in.Buffered())
		skip := bytes.Index(b, mark)
		if skip < 0 {
			skip = len(b) - len(mark) + 1
		}
		if _, err := w.in.Discard(skip); err != nil {
			return err
		}
	}
}
