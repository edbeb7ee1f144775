//go:build linux

package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"capsid/guest/link"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds what is relayed at the same time.
	maxConnections = 20000
	// dialTime bounds the wait for the host to take a stream.
	dialTime = time.Minute
	// typeProcess is the PROXY v2 TLV (of the range for custom use, PP2_TYPE_MIN_CUSTOM) with the name of the process that connected.
	typeProcess = 0xE0
)

// relay takes redirected connections until the listener is closed.
func (e *Egress) relay(l *net.TCPListener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors: one that ends makes room.
			time.Sleep(50 * time.Millisecond)
			continue
		}
		select {
		case e.room <- struct{}{}:
		default:
			reset(c)
			continue
		}
		conns.Go(func() {
			defer func() { <-e.room }()
			e.relayOne(c)
		})
	}
}

func (e *Egress) relayOne(c *net.TCPConn) {
	src := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	dst, err := originalDestination(c)
	if err != nil || dst == c.LocalAddr().(*net.TCPAddr).AddrPort() {
		reset(c) // somebody connected to the relay itself
		return
	}
	named := make(chan string, 1)
	go func() { named <- e.names.lookup(src, dst) }()
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	stream, err := e.cfg.Link.Dial(ctx, link.Egress)
	if err != nil {
		reset(c)
		return
	}
	if _, err := stream.Write(header(src, dst, <-named)); err != nil {
		_ = stream.Close()
		reset(c)
		return
	}
	splice(c, stream)
}

// header is the PROXY v2 header of a connection.
func header(src, dst netip.AddrPort, process string) []byte {
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(src), net.TCPAddrFromAddrPort(dst))
	if process != "" {
		_ = h.SetTLVs([]proxyproto.TLV{{Type: typeProcess, Value: []byte(process)}})
	}
	b, err := h.Format()
	if err != nil {
		// Only addresses of two kinds could do that.
		return nil
	}
	return b
}

// splice copies both ways, each end of bytes by itself, until both have ended or one has failed.
func splice(c *net.TCPConn, stream link.Conn) {
	var broken sync.Once
	abort := func() {
		broken.Do(func() {
			reset(c)
			_ = stream.Close()
		})
	}
	var both sync.WaitGroup
	both.Go(func() {
		if copyOut(stream, c) != nil {
			abort()
			return
		}
		_ = stream.CloseWrite()
	})
	both.Go(func() {
		if copyIn(c, stream) != nil {
			abort()
			return
		}
		_ = c.CloseWrite()
	})
	both.Wait()
	_ = c.Close()
	_ = stream.Close()
}

// reset closes a connection with RST, so that the program sees that it was broken and not ended.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

const (
	idleBuffer = 1 << 10
	busyBuffer = 64 << 10
)

var buffers = sync.Pool{New: func() any { b := make([]byte, busyBuffer); return &b }}

// copyOut copies from the program to the stream. It takes a buffer when there are bytes to read and not before: thousands of idle
// connections cost none.
func copyOut(dst io.Writer, src *net.TCPConn) error {
	raw, err := src.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var n int
		var buf *[]byte
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			buf = buffers.Get().(*[]byte)
			for {
				n, failed = unix.Read(int(fd), *buf)
				if !errors.Is(failed, unix.EINTR) {
					break
				}
			}
			if errors.Is(failed, unix.EAGAIN) {
				buffers.Put(buf)
				return false
			}
			return true
		})
		if err != nil {
			return err
		}
		if failed == nil && n > 0 {
			_, failed = dst.Write((*buf)[:n])
		}
		buffers.Put(buf)
		if failed != nil {
			return failed
		}
		if n == 0 {
			return nil
		}
	}
}

// copyIn copies from the stream to the program. A stream cannot be asked whether it has bytes, so it is waited for with a small buffer,
// and read with a large one as long as it fills that.
func copyIn(dst io.Writer, src io.Reader) error {
	small := make([]byte, idleBuffer)
	for {
		n, err := src.Read(small)
		if n > 0 {
			if _, err := dst.Write(small[:n]); err != nil {
				return err
			}
		}
		if err == nil && n == len(small) {
			err = copyBusy(dst, src)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func copyBusy(dst io.Writer, src io.Reader) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if _, err := dst.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		if err != nil || n < idleBuffer {
			return err
		}
	}
}

// originalDestination is where a redirected connection was going: SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, both 80.
func originalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var addr netip.AddrPort
	var failed error
	six := c.LocalAddr().(*net.TCPAddr).IP.To4() == nil
	err = raw.Control(func(fd uintptr) {
		if six {
			// struct sockaddr_in6 is the first member of struct ip6_mtuinfo, the one type of that size that can be asked for without unsafe.
			var m *unix.IPv6MTUInfo
			if m, failed = unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, unix.SO_ORIGINAL_DST); failed == nil {
				addr = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), swap(m.Addr.Port))
			}
			return
		}
		// struct sockaddr_in has 16 bytes, as struct in6_addr, the first member of struct ipv6_mreq: family 2, port 2, address 4.
		var m *unix.IPv6Mreq
		if m, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); failed == nil {
			b := m.Multiaddr
			addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	return addr, nil
}

// swap turns a port of network byte order, read as this little-endian machine's integer.
func swap(p uint16) uint16 { return p<<8 | p>>8 }
