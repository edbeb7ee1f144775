package mitm

import (
	"fmt"
	"net"
	"net/netip"

	"capsid/proxy/policy"
)

// privateError: a name led to an address that only a rule can open.
type privateError struct {
	addr netip.Addr
	what string
}

func (e *privateError) Error() string { return fmt.Sprintf("%s is %s", e.addr, e.what) }

// checkAddress refuses addresses that an allowed name must not lead to: everything that policy.Private reports, the wire server of Azure's
// metadata (a public address), and the host's own addresses. It is asked about the very address that is about to be dialed.
func checkAddress(a netip.Addr, own func() ([]net.Addr, error)) error {
	a = a.Unmap().WithZone("")
	switch {
	case a.IsLoopback():
		return &privateError{a, "a loopback address"}
	case a.IsLinkLocalUnicast():
		return &privateError{a, "a link-local address, where metadata services are"}
	case a.IsPrivate():
		return &privateError{a, "a private address"}
	case policy.Private(a):
		return &privateError{a, "a reserved address"}
	case a == azureWireServer:
		return &privateError{a, "a metadata service"}
	}
	list, err := own()
	if err != nil {
		return fmt.Errorf("the host's own addresses cannot be listed: %w", err)
	}
	for _, o := range list {
		if p, err := netip.ParsePrefix(o.String()); err == nil && p.Addr().Unmap().WithZone("") == a {
			return &privateError{a, "an address of this host"}
		}
	}
	return nil
}

// learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
var azureWireServer = netip.AddrFrom4([4]byte{168, 63, 129, 16})
