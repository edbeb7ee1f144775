package mitm

import "fmt"

// protocol is what a connection's first bytes look like.
type protocol int

const (
	unsure protocol = iota // more bytes are needed
	isTLS
	isHTTP
	isOther
)

// maxSniff is how many first bytes may be needed: the longest method that is let through and the space after it.
const maxSniff = 32

// sniff looks at a connection's first bytes. It only chooses the parser, which then does the judging: crypto/tls or net/http.
func sniff(b []byte) protocol {
	if len(b) == 0 {
		return unsure
	}
	// RFC 8446 §5.1: a record of type handshake (22), legacy version 0x0301 to 0x0303.
	if b[0] == 22 {
		if len(b) < 2 {
			return unsure
		}
		if b[1] == 3 {
			return isTLS
		}
		return isOther
	}
	// RFC 9110 §9.1: a method is a token; all that are registered are of capital letters and hyphens. Then one space (RFC 9112 §3).
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
		case i > 0 && (c == '-' || c == '_'):
		case i > 0 && c == ' ':
			return isHTTP
		default:
			return isOther
		}
		if i == maxSniff-1 {
			return isOther
		}
	}
	return unsure
}

// describe says what refused first bytes seem to be, without repeating them.
func describe(b []byte) string {
	for prefix, name := range map[string]string{
		"SSH-":                     "SSH",
		"\x13BitTorrent":           "BitTorrent",
		"\x00\x00\x00\x08\x04\xd2": "PostgreSQL",
		"\x05":                     "SOCKS",
		"\x10":                     "MQTT",
		"*":                        "Redis",
	} {
		if len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix {
			return name
		}
	}
	return fmt.Sprintf("an unknown protocol (first byte %#02x)", b[0])
}
