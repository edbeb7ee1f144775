//go:build linux

package egress

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxDNSConns   = 128
	dnsIdle       = 30 * time.Second
	plainDatagram = 512 // RFC 1035, 4.2.1
)

// serveDNSUDP answers datagrams until the socket is closed.
func (e *Egress) serveDNSUDP(c *net.UDPConn) {
	var asking sync.WaitGroup
	defer asking.Wait()
	room := make(chan struct{}, maxQuestion/2)
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 12 {
			continue
		}
		q := append([]byte(nil), buf[:n]...)
		select {
		case room <- struct{}{}:
		default:
			e.reply(c, from, failure(q))
			continue
		}
		asking.Go(func() {
			defer func() { <-room }()
			a, err := e.dns.ask(q)
			if err != nil {
				a = failure(q)
			}
			e.reply(c, from, fit(a, datagramSize(q)))
		})
	}
}

func (e *Egress) reply(c *net.UDPConn, to netip.AddrPort, a []byte) {
	if a != nil {
		_, _ = c.WriteToUDPAddrPort(a, to)
	}
}

// serveDNSTCP answers connections until the listener is closed.
func (e *Egress) serveDNSTCP(l *net.TCPListener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	room := make(chan struct{}, maxDNSConns)
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			reset(c)
			continue
		}
		conns.Go(func() {
			defer func() { <-room }()
			defer c.Close()
			for {
				_ = c.SetReadDeadline(time.Now().Add(dnsIdle))
				q, err := readMessage(c)
				if err != nil {
					return
				}
				a, err := e.dns.ask(q)
				if err != nil {
					a = failure(q)
				}
				if a == nil {
					return
				}
				_ = c.SetWriteDeadline(time.Now().Add(dnsIdle))
				if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
					return
				}
			}
		})
	}
}

// failure answers q with SERVFAIL, so that a program does not wait for what will not come. It is nil when q is no question.
func failure(q []byte) []byte { return brief(q, dnsmessage.RCodeServerFailure, false) }

// fit is the answer a for a datagram of at most size bytes: a itself, or one that says that it was cut (RFC 2181, 9), whereupon the
// program asks again by TCP.
func fit(a []byte, size int) []byte {
	if len(a) <= size {
		return a
	}
	var p dnsmessage.Parser
	h, err := p.Start(a)
	if err != nil {
		return nil
	}
	return brief(a, h.RCode, true)
}

// brief is a message with the ID and the question of msg, and nothing else.
func brief(msg []byte, code dnsmessage.RCode, cut bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	out := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
			RCode: code, Truncated: cut,
		},
		Questions: []dnsmessage.Question{q},
	}
	b, err := out.Pack()
	if err != nil {
		return nil
	}
	return b
}

// datagramSize is how large an answer the asker of q takes: what its EDNS record says (RFC 6891, 6.2.3), at least 512.
func datagramSize(q []byte) int {
	var p dnsmessage.Parser
	if _, err := p.Start(q); err != nil {
		return plainDatagram
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return plainDatagram
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return plainDatagram
		}
		if h.Type == dnsmessage.TypeOPT {
			return max(plainDatagram, min(int(h.Class), 4096))
		}
		if p.SkipAdditional() != nil {
			return plainDatagram
		}
	}
}
