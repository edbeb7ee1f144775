//go:build linux

package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"capsid/guest/link"
)

const (
	// dnsTime bounds one question. Resolvers of C libraries ask again after 5 s.
	dnsTime     = 15 * time.Second
	maxQuestion = 1024 // unanswered at the same time
)

var (
	errNoAnswer = errors.New("no answer from the host")
	errBusy     = errors.New("too many questions")
	errLost     = errors.New("the host's resolver was lost before its answer")
)

// exchange asks the host's resolver over one DNS stream (RFC 7766), made when it is first needed and again after it was lost. Answers
// come in any order; they are told apart by an ID that is the exchange's own.
type exchange struct {
	link link.Link

	mu      sync.Mutex
	conn    net.Conn
	waiting map[uint16]chan []byte
	next    uint16
	closed  bool
	writing sync.Mutex
}

func newExchange(l link.Link) *exchange {
	return &exchange{link: l, waiting: make(map[uint16]chan []byte)}
}

func (x *exchange) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	x.drop(x.conn)
}

// askTries is how often a question is asked whose stream is lost before the answer, as all are when the machine is restored.
const askTries = 3

// ask sends one question, a whole DNS message, and returns the answer under the question's own ID.
func (x *exchange) ask(q []byte) ([]byte, error) {
	if len(q) < 12 || len(q) > 65535 {
		return nil, errNoAnswer
	}
	ctx, cancel := context.WithTimeout(context.Background(), dnsTime)
	defer cancel()
	for try := 1; ; try++ {
		a, err := x.askOnce(ctx, q)
		if !errors.Is(err, errLost) && !errors.Is(err, link.ErrReset) || try == askTries {
			return a, err
		}
	}
}

func (x *exchange) askOnce(ctx context.Context, q []byte) ([]byte, error) {
	conn, id, answer, err := x.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer x.leave(id)
	msg := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q)), uint16(len(q)))
	msg = binary.BigEndian.AppendUint16(msg, id)
	msg = append(msg, q[2:]...)
	x.writing.Lock()
	_, err = conn.Write(msg)
	x.writing.Unlock()
	if err != nil {
		x.lost(conn)
		return nil, errors.Join(errLost, err)
	}
	select {
	case a, ok := <-answer:
		if !ok {
			return nil, errLost
		}
		copy(a, q[:2])
		return a, nil
	case <-ctx.Done():
		return nil, errNoAnswer
	}
}

// enter takes an ID, and the stream, which it makes when there is none.
func (x *exchange) enter(ctx context.Context) (net.Conn, uint16, chan []byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil, 0, nil, net.ErrClosed
	}
	if len(x.waiting) >= maxQuestion {
		return nil, 0, nil, errBusy
	}
	if x.conn == nil {
		// Under the lock: whoever else has a question needs the same stream.
		conn, err := x.link.Dial(ctx, link.DNS)
		if err != nil {
			return nil, 0, nil, err
		}
		x.conn = conn
		go x.read(conn)
	}
	for {
		x.next++
		if _, taken := x.waiting[x.next]; !taken {
			break
		}
	}
	answer := make(chan []byte, 1)
	x.waiting[x.next] = answer
	return x.conn, x.next, answer, nil
}

func (x *exchange) leave(id uint16) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.waiting, id)
}

// read hands answers on until the stream ends.
func (x *exchange) read(conn net.Conn) {
	defer x.lost(conn)
	for {
		msg, err := readMessage(conn)
		if err != nil {
			return
		}
		x.mu.Lock()
		id := binary.BigEndian.Uint16(msg)
		answer := x.waiting[id]
		delete(x.waiting, id)
		x.mu.Unlock()
		if answer != nil {
			answer <- msg
		}
	}
}

func (x *exchange) lost(conn net.Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn == conn {
		x.drop(conn)
	}
}

// drop ends the stream and all that wait for it. Under the lock.
func (x *exchange) drop(conn net.Conn) {
	if conn != nil {
		_ = conn.Close()
	}
	x.conn = nil
	for id, answer := range x.waiting {
		close(answer)
		delete(x.waiting, id)
	}
}

// readMessage reads one message with its two bytes of length before it.
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n < 12 {
		return nil, errors.New("DNS message shorter than its header")
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(r, msg)
	return msg, err
}
