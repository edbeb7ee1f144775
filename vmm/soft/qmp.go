package soft

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
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
		Status string `json:"status"` // of MIGRATION
	} `json:"data"`
}

type reply struct {
	value json.RawMessage
	err   error
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
			m.answer(msg.ID, reply{err: errors.New(msg.Error.Desc)})
		case msg.Return != nil:
			m.answer(msg.ID, reply{value: msg.Return})
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.EOF
	}
	m.fail(fmt.Errorf("QEMU's monitor: %w", err))
}

func (m *monitor) answer(id int, r reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.waiting[id]; c != nil {
		c <- r
		delete(m.waiting, id)
	}
}

func (m *monitor) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	m.conn.Close()
	for id, c := range m.waiting {
		c <- reply{err: err}
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
	_, err := m.call(ctx, command, nil, nil)
	return err
}

// call carries out a command with arguments, an object or nil, and gives what QEMU returns. With the command goes a file, or none.
func (m *monitor) call(ctx context.Context, command string, arguments any, file *os.File) (json.RawMessage, error) {
	answer := make(chan reply, 1)
	m.mu.Lock()
	if m.err != nil {
		defer m.mu.Unlock()
		return nil, m.err
	}
	m.next++
	id := m.next
	m.waiting[id] = answer
	m.mu.Unlock()

	if err := m.send(id, command, arguments, file); err != nil {
		m.answer(id, reply{err: err})
	}
	select {
	case r := <-answer:
		if r.err != nil {
			return nil, fmt.Errorf("QEMU %s: %w", command, r.err)
		}
		return r.value, nil
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
		return nil, fmt.Errorf("QEMU %s: %w", command, ctx.Err())
	}
}

func (m *monitor) send(id int, command string, arguments any, file *os.File) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		ID        int    `json:"id"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, id, arguments})
	if err != nil {
		return err
	}
	line = append(line, '\n')
	m.write.Lock()
	defer m.write.Unlock()
	if file == nil {
		_, err = m.conn.Write(line)
		return err
	}
	c, ok := m.conn.(*net.UnixConn)
	if !ok {
		return errors.New("its monitor is no socket that takes files")
	}
	n, _, err := c.WriteMsgUnix(line, syscall.UnixRights(int(file.Fd())), nil)
	if err == nil && n < len(line) {
		_, err = c.Write(line[n:])
	}
	return err
}
