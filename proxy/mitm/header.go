package mitm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"
)

// The PROXY protocol, version 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt §2.2).
const (
	signature    = "\r\n\r\n\x00\r\nQUIT\n"
	versionProxy = 0x21 // version 2, command PROXY
	familyTCP4   = 0x11
	familyTCP6   = 0x21
	maxHeader    = 1024 // bytes after the fixed part; ours has at most 36 + 3 + 64

	tlvProcess = 0xE0 // PP2_TYPE_MIN_CUSTOM: the guest's claim of which program asks
	maxProcess = 64
)

// header is what a stream begins with.
type header struct {
	dst     netip.AddrPort
	process string
}

// readHeader reads exactly the header and nothing after it.
func readHeader(r io.Reader) (header, error) {
	var fixed [16]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return header{}, err
	}
	if string(fixed[:12]) != signature {
		return header{}, errors.New("no PROXY v2 signature")
	}
	n := int(binary.BigEndian.Uint16(fixed[14:]))
	if n > maxHeader {
		return header{}, fmt.Errorf("a header of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return header{}, err
	}
	if fixed[12] != versionProxy {
		return header{}, fmt.Errorf("version and command %#x", fixed[12])
	}
	var h header
	switch {
	case fixed[13] == familyTCP4 && n >= 12:
		h.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[4:8])), binary.BigEndian.Uint16(body[10:]))
		body = body[12:]
	case fixed[13] == familyTCP6 && n >= 36:
		h.dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[16:32])).Unmap(), binary.BigEndian.Uint16(body[34:]))
		body = body[36:]
	default:
		return header{}, fmt.Errorf("family %#x with %d bytes", fixed[13], n)
	}
	if h.dst.Port() == 0 {
		return header{}, errors.New("port 0")
	}
	for len(body) > 0 {
		if len(body) < 3 {
			return header{}, errors.New("a cut TLV")
		}
		size := int(binary.BigEndian.Uint16(body[1:]))
		if len(body) < 3+size {
			return header{}, errors.New("a cut TLV")
		}
		if body[0] == tlvProcess {
			h.process = processClaim(body[3 : 3+size])
		}
		body = body[3+size:]
	}
	return h, nil
}

func processClaim(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	if len(b) > maxProcess {
		b = b[:maxProcess]
	}
	s := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(b), ""))
	return strings.TrimSpace(s)
}
