//go:build linux

package egress

import (
	"encoding/binary"
	"net"
	"testing"

	"capsid/guest/link"
)

// A question whose stream is lost is asked again, a few times.
func TestAskAgain(t *testing.T) {
	a, b := net.Pipe()
	host, guest := link.NewMux(a, link.Host), link.NewMux(b, link.Guest)
	defer host.Close()
	defer guest.Close()
	questions, lose := 0, 2
	listen(t, host, link.DNS, func(c net.Conn) {
		defer c.Close()
		q, err := readMessage(c)
		if err != nil {
			return
		}
		if questions++; questions > lose {
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...))
			_, _ = readMessage(c)
		}
	})
	x := newExchange(guest)
	if _, err := x.ask(question4(t, "example.com.", 0)); err != nil || questions != 3 {
		t.Errorf("after %d questions: %v", questions, err)
	}
	x.close()
	x, questions, lose = newExchange(guest), 0, 100
	defer x.close()
	if _, err := x.ask(question4(t, "example.com.", 0)); err == nil || questions != askTries {
		t.Errorf("after %d questions: %v", questions, err)
	}
}
