//go:build linux

package egress

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Interface is the network interface that every route leads to.
	Interface = "capsid0"
	// Resolver is an address for resolv.conf. Any would do, since port 53 is redirected whatever its address. It is of
	// 198.18.0.0/24, as the interface's own: the range that no host has (RFC 2544), and of it the part that the proxy gives no name. A program that
	// asks for a real address is never taken to mean this machine.
	Resolver = "198.18.0.1"

	address4 = "198.18.0.2/32"
	address6 = "fdca:951d::2/128"
	// mtu is large since packets only go round in memory.
	mtu = 65520
)

// linkUp makes the interface, brings it and the loopback interface up, and routes everything to it.
func linkUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	if _, err := netlink.LinkByName(Interface); err != nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = Interface, mtu
		if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("interface %s: %w", Interface, err)
		}
	}
	// No address of its own making, and no wait for somebody who has the same one.
	for _, kv := range [][2]string{{"addr_gen_mode", "1"}, {"accept_dad", "0"}, {"accept_ra", "0"}} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+Interface+"/"+kv[0], []byte(kv[1]), 0)
	}
	nic, err := netlink.LinkByName(Interface)
	if err != nil {
		return fmt.Errorf("interface %s: %w", Interface, err)
	}
	if err := netlink.LinkSetUp(nic); err != nil {
		return fmt.Errorf("interface %s: %w", Interface, err)
	}
	for _, a := range []string{address4, address6} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags |= unix.IFA_F_NODAD
		if err := netlink.AddrReplace(nic, addr); err != nil {
			return fmt.Errorf("interface %s, address %s: %w", Interface, a, err)
		}
	}
	for _, dst := range []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}} {
		route := &netlink.Route{LinkIndex: nic.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("interface %s, default route: %w", Interface, err)
		}
	}
	return nil
}
