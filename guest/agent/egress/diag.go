//go:build linux

package egress

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socketDiag asks the kernel for single sockets, see sock_diag(7). A dump with a filter, which libraries offer, looks at all sockets each time.
type socketDiag struct{ conn *netlink.Conn }

const (
	// sockDiagByFamily is SOCK_DIAG_BY_FAMILY of linux/sock_diag.h.
	sockDiagByFamily = 20
	// Sizes of struct inet_diag_req_v2 and inet_diag_msg of linux/inet_diag.h, and of their parts.
	diagRequestSize = 56
	diagReplySize   = 72
	inodeOffset     = 68
)

// inode is the socket's inode number, 0 when there is no such socket or the kernel cannot tell.
func (d *socketDiag) inode(p pair) uint32 {
	if d.conn == nil {
		c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
		if err != nil {
			return 0
		}
		d.conn = c
	}
	replies, err := d.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request},
		Data:   diagRequest(p),
	})
	if err != nil || len(replies) == 0 || len(replies[0].Data) < diagReplySize {
		return 0
	}
	return binary.NativeEndian.Uint32(replies[0].Data[inodeOffset:])
}

// diagRequest is a struct inet_diag_req_v2: family, protocol, ext, pad; states; then struct inet_diag_sockid: ports and
// addresses in network byte order, interface, cookie (INET_DIAG_NOCOOKIE).
func diagRequest(p pair) []byte {
	b := make([]byte, 0, diagRequestSize)
	family := byte(unix.AF_INET6)
	if p.src.Addr().Is4() && p.dst.Addr().Is4() {
		family = unix.AF_INET
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff)
	b = binary.BigEndian.AppendUint16(b, p.src.Port())
	b = binary.BigEndian.AppendUint16(b, p.dst.Port())
	for _, a := range [][]byte{p.src.Addr().AsSlice(), p.dst.Addr().AsSlice()} {
		b = append(b, a...)
		b = append(b, make([]byte, 16-len(a))...)
	}
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff)
	return binary.NativeEndian.AppendUint32(b, 0xffffffff)
}

func (d *socketDiag) close() {
	if d.conn != nil {
		_ = d.conn.Close()
	}
}
