//go:build linux

// Package egress is the guest's end of the only way out: an interface that leads nowhere takes every route, nftables turns TCP and
// DNS back to the relays here, and these speak to the host over the link. Everything else is refused at once, so that programs
// fail with an error and not by a time-out.
//
// It enforces nothing. A program that is root in the guest may take the rules away; it has no network then.
package egress

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"capsid/guest/link"
)

// Config is what the relays need.
type Config struct {
	Link link.Link
	Log  func(format string, args ...any)
}

// Egress are the running relays.
type Egress struct {
	cfg     Config
	tcp     [2]*net.TCPListener // IPv4, IPv6
	dnsTCP  [2]*net.TCPListener
	dnsUDP  [2]*net.UDPConn
	names   *names
	dns     *exchange
	room    chan struct{}
	running sync.WaitGroup
}

// families are the loopback addresses that the relays listen on, in the order of Egress's arrays.
var families = [2]struct{ tcp, udp, addr string }{{"tcp4", "udp4", "127.0.0.1"}, {"tcp6", "udp6", "::1"}}

// Start makes the interface, starts the relays and redirects to them. On failure nothing of it runs.
func Start(cfg Config) (*Egress, error) {
	if err := linkUp(); err != nil {
		return nil, err
	}
	e := &Egress{cfg: cfg, names: newNames(), dns: newExchange(cfg.Link), room: make(chan struct{}, maxConnections)}
	if err := e.listen(); err != nil {
		e.Close()
		return nil, err
	}
	if err := redirect(e.ports()); err != nil {
		e.Close()
		return nil, err
	}
	for i := range families {
		e.running.Go(func() { e.relay(e.tcp[i]) })
		e.running.Go(func() { e.serveDNSTCP(e.dnsTCP[i]) })
		e.running.Go(func() { e.serveDNSUDP(e.dnsUDP[i]) })
	}
	return e, nil
}

func (e *Egress) listen() error {
	var err error
	for i, f := range families {
		ip := net.ParseIP(f.addr)
		if e.tcp[i], err = net.ListenTCP(f.tcp, &net.TCPAddr{IP: ip}); err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		if e.dnsTCP[i], err = net.ListenTCP(f.tcp, &net.TCPAddr{IP: ip}); err != nil {
			return fmt.Errorf("DNS relay: %w", err)
		}
		if e.dnsUDP[i], err = net.ListenUDP(f.udp, &net.UDPAddr{IP: ip}); err != nil {
			return fmt.Errorf("DNS relay: %w", err)
		}
	}
	return nil
}

// targets are the ports that traffic is redirected to, IPv4 and IPv6.
type targets struct{ tcp, dnsTCP, dnsUDP [2]uint16 }

func (e *Egress) ports() (t targets) {
	for i := range families {
		t.tcp[i] = uint16(e.tcp[i].Addr().(*net.TCPAddr).Port)
		t.dnsTCP[i] = uint16(e.dnsTCP[i].Addr().(*net.TCPAddr).Port)
		t.dnsUDP[i] = uint16(e.dnsUDP[i].LocalAddr().(*net.UDPAddr).Port)
	}
	return t
}

// Close ends the listeners and waits for the connections, which end with the link.
func (e *Egress) Close() error {
	var err error
	for i := range families {
		if e.tcp[i] != nil {
			err = errors.Join(err, e.tcp[i].Close())
		}
		if e.dnsTCP[i] != nil {
			err = errors.Join(err, e.dnsTCP[i].Close())
		}
		if e.dnsUDP[i] != nil {
			err = errors.Join(err, e.dnsUDP[i].Close())
		}
	}
	e.dns.close()
	e.running.Wait()
	e.names.close()
	return err
}
