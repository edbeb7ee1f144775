//go:build linux

package agent

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// serveForward connects a direct-tcpip channel (RFC 4254, 7.2) to a port of the guest's loopback interface. The way to any
// other address is the relay's, so a forward is no way round it.
func serveForward(nc ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if ssh.Unmarshal(nc.ExtraData(), &m) != nil || m.Port == 0 || m.Port > 65535 {
		_ = nc.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	hosts := loopback(m.Host)
	if hosts == nil {
		_ = nc.Reject(ssh.Prohibited, "only ports of the machine itself can be forwarded; use localhost")
		return
	}
	var conn net.Conn
	var err error
	for _, h := range hosts {
		conn, err = net.DialTimeout("tcp", net.JoinHostPort(h, strconv.Itoa(int(m.Port))), 10*time.Second)
		if err == nil {
			break
		}
	}
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(reqs)
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(conn, ch)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	both.Go(func() {
		_, err := io.Copy(ch, conn)
		_ = ch.CloseWrite()
		if err != nil {
			_ = ch.Close() // a reset: the other direction is over too
		}
	})
	both.Wait()
}

// loopback lists the addresses that host means, nil when it is not this machine.
func loopback(host string) []string {
	if host == "localhost" || host == "" {
		return []string{"127.0.0.1", "::1"}
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() {
		return []string{a.Unmap().String()}
	}
	return nil
}
