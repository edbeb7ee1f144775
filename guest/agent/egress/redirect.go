//go:build linux

package egress

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// redirect writes the rules: what is about to leave by Interface is turned to the relays when it is TCP or DNS, and refused when it is
// anything else. Traffic of the machine with itself, also by the interface's own address, leaves by "lo" and is not touched.
func redirect(t targets) error {
	// Older or smaller kernels lack "reject": the packet is dropped then, which the sender sees as EPERM.
	refuse := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
	if err := writeRules(t, refuse); err == nil {
		return nil
	}
	if err := writeRules(t, []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}); err != nil {
		return fmt.Errorf("redirect to the relay: %w", err)
	}
	return nil
}

func writeRules(t targets, refuse []expr.Any) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "capsid"})
	c.FlushTable(table)
	nat := c.AddChain(&nftables.Chain{
		Name: "turn", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	filter := c.AddChain(&nftables.Chain{
		Name: "refuse", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
	})
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		exprs := leavesBy(Interface)
		for _, p := range parts {
			exprs = append(exprs, p...)
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	for i, proto := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		of := metaIs(expr.MetaKeyNFPROTO, proto)
		rule(nat, of, metaIs(expr.MetaKeyL4PROTO, unix.IPPROTO_UDP), destinationPort(53), redirectTo(t.dnsUDP[i]))
		rule(nat, of, metaIs(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), destinationPort(53), redirectTo(t.dnsTCP[i]))
		rule(nat, of, metaIs(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), redirectTo(t.tcp[i]))
	}
	// The hook still names the interface that the packet had before it was turned, so what was turned is told by its new address.
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	rule(filter, metaIs(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), accept)
	rule(filter, metaIs(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4), networkIs(16, []byte{127}), accept)
	rule(filter, metaIs(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6), networkIs(24, net.IPv6loopback), accept)
	rule(filter, refuse)
	return c.Flush()
}

func leavesBy(name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded},
	}
}

func metaIs(key expr.MetaKey, value byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{value}}}
}

// destinationPort matches the port of TCP and UDP, both of which have it at byte 2.
func destinationPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// networkIs matches the first bytes of the destination address, which is at offset in the network header.
func networkIs(offset uint32, first []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(first))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: first},
	}
}

func redirectTo(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		// NF_NAT_RANGE_PROTO_SPECIFIED
		&expr.Redir{RegisterProtoMin: 1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}
