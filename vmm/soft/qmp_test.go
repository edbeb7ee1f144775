package soft

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {}, "capabilities": []}}` + "\n"

// answering plays QEMU: it writes the greeting, and one line of answers for each command.
func answering(t *testing.T, answers ...string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() {
		io.WriteString(theirs, greeting)
		r := bufio.NewReader(theirs)
		for _, a := range answers {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			io.WriteString(theirs, a+"\n")
		}
	}()
	return ours
}

func TestMonitor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events := make(chan event, 1)
	m := newMonitor(answering(t,
		`{"return": {}, "id": 1}`,
		`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}`+"\n"+`{"return": {}, "id": 2}`,
		`{"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": 3}`,
		`not JSON`,
	), func(e event) { events <- e })
	if err := m.start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.do(ctx, "stop"); err != nil {
		t.Error(err)
	}
	if e := <-events; e.Name != "SHUTDOWN" || e.Data.Reason != "guest-reset" || !e.Data.Guest {
		t.Errorf("%+v", e)
	}
	if err := m.do(ctx, "nonsense"); err == nil || !strings.Contains(err.Error(), "no such command") {
		t.Errorf("err: %v", err)
	}
	if err := m.do(ctx, "cont"); err == nil {
		t.Error("an answer that is not JSON was taken")
	}
	<-m.done
	if err := m.do(ctx, "cont"); err == nil {
		t.Error("a monitor that has ended answers")
	}
}

func TestMonitorIsBounded(t *testing.T) {
	m := newMonitor(answering(t, strings.Repeat("x", maxLine+1)), func(event) {})
	if err := m.start(t.Context()); !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("err: %v", err)
	}
}

func TestMonitorContext(t *testing.T) {
	m := newMonitor(answering(t), func(event) {}) // reads no command
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	<-m.greeted
	m.conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	if err := m.do(ctx, "stop"); err == nil {
		t.Error("no error")
	}
}
