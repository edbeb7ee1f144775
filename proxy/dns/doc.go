// Package dns answers a guest's questions about names without asking anyone.
//
// A name is answered with a synthetic address out of 198.18.0.0/15 (RFC 2544, routed nowhere) that stands for it in this session alone.
// When the guest connects to that address, the egress side finds out which name was meant, and only then, if a rule allows the
// connection, does the host resolve the name. So a question carries nothing out of the machine, whatever is encoded in it. Names that are not
// allowed are answered too, for the refusal that a program then reads says more than "no such host".
//
// Only A has data. AAAA, HTTPS and SVCB exist but are empty, so that there are no hints for ECH or QUIC; PTR is answered for
// synthetic addresses. Other types, and names that look like data, are refused and recorded.
//
// What is spoken is DNS over TCP (RFC 7766): two bytes of length, then a message.
package dns
