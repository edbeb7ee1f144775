package soft

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// maxLine bounds a message of QEMU's; it is trusted little more than its guest.
const maxLine = 256 << 10

// monitor speaks QMP, QEMU's control protocol (docs/interop/qmp-spec.txt): JSON objects, one a line.
type monitor struct {
	conn net.Conn
	on   func(event)

	write   sync.Mutex
	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	err     error
	greeted chan struct{}
	done    chan struct{}
}

type event struct {
	Name string `json:"event"`
	Data struct {
		Guest  bool   `json:"guest"`
		Reason string `json:"reason"`
	} `json:"data"`
}

type reply struct {
	err error
}

// newMonitor reads from conn until it ends; on is called for each event, in order.
func newMonitor(conn net.Conn, on func(event)) *monitor {
	m := &monitor{conn: conn, on: on, waiting: map[int]chan reply{}, greeted: make(chan struct{}), done: make(chan struct{})}
	go m.read()
	return m
}

func (m *monitor) read() {
	defer close(m.done)
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(nil, maxLine)
	greeted := false
	for lines.Scan() {
		var msg struct {
			event
			QMP    json.RawMessage `json:"QMP"`
			ID     int             `json:"id"`
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &msg); err != nil {
			m.fail(fmt.Errorf("QEMU's monitor: %w", err))
			return
		}
		switch {
		case msg.QMP != nil && !greeted:
			greeted = true
			close(m.greeted)
		case msg.Name != "":
			m.on(msg.event)
		case msg.Error != nil:
			m.answer(msg.ID, errors.New(msg.Error.Desc))
		case msg.Return != nil:
			m.answer(msg.ID, nil)
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.EOF
	}
	m.fail(fmt.Errorf("QEMU's monitor: %w", err))
}

func (m *monitor) answer(id int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.waiting[id]; c != nil {
		c <- reply{err}
		delete(m.waiting, id)
	}
}

func (m *monitor) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	m.conn.Close()
	for id, c := range m.waiting {
		c <- reply{err}
		delete(m.waiting, id)
	}
}

// start waits until QEMU has made the machine, and enters command mode.
func (m *monitor) start(ctx context.Context) error {
	select {
	case <-m.greeted:
		return m.do(ctx, "qmp_capabilities")
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do carries out a command without arguments.
func (m *monitor) do(ctx context.Context, command string) error {
	answer := make(chan reply, 1)
	m.mu.Lock()
	if m.err != nil {
		defer m.mu.Unlock()
		return m.err
	}
	m.next++
	id := m.next
	m.waiting[id] = answer
	m.mu.Unlock()

	line := fmt.Sprintf("{\"execute\":%q,\"id\":%d}\n", command, id)
	m.write.Lock()
	_, err := io.WriteString(m.conn, line)
	m.write.Unlock()
	if err != nil {
		m.answer(id, err)
	}
	select {
	case r := <-answer:
		if r.err != nil {
			return fmt.Errorf("QEMU %s: %w", command, r.err)
		}
		return nil
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
		return fmt.Errorf("QEMU %s: %w", command, ctx.Err())
	}
}
