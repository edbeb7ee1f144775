package virtio

import "encoding/binary"

// The header of every packet (§5.10.6): struct virtio_vsock_hdr, little-endian.
const vsockHeaderSize = 44

// Context identifiers (§5.10.4). What is below 3 is reserved, and so is all of the upper 32 bits.
const hostCID = 2

// vsockTypeStream is the one socket type that the device offers (§5.10.6).
const vsockTypeStream = 1

// Operations (§5.10.6).
const (
	opRequest       = 1
	opResponse      = 2
	opReset         = 3
	opShutdown      = 4
	opData          = 5 // VIRTIO_VSOCK_OP_RW
	opCreditUpdate  = 6
	opCreditRequest = 7
)

// Flags of opShutdown (§5.10.6.5): the sender will not receive, or not send, any more.
const (
	shutReceive = 1
	shutSend    = 2
	shutBoth    = shutReceive | shutSend
)

// vsockHeader is a packet's header.
type vsockHeader struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32 // of the payload
	kind, op         uint16
	flags            uint32
	bufAlloc, fwdCnt uint32 // the sender's credit for the other (§5.10.6.3)
}

func parseVsock(b *[vsockHeaderSize]byte) vsockHeader {
	le := binary.LittleEndian
	return vsockHeader{
		srcCID: le.Uint64(b[0:]), dstCID: le.Uint64(b[8:]),
		srcPort: le.Uint32(b[16:]), dstPort: le.Uint32(b[20:]),
		length: le.Uint32(b[24:]), kind: le.Uint16(b[28:]), op: le.Uint16(b[30:]),
		flags: le.Uint32(b[32:]), bufAlloc: le.Uint32(b[36:]), fwdCnt: le.Uint32(b[40:]),
	}
}

func (h *vsockHeader) bytes() (b [vsockHeaderSize]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.kind)
	le.PutUint16(b[30:], h.op)
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
	return b
}

// refusal is the reset that answers a packet which belongs to no stream.
func (h *vsockHeader) refusal() vsockHeader {
	return vsockHeader{
		srcCID: h.dstCID, dstCID: h.srcCID, srcPort: h.dstPort, dstPort: h.srcPort, kind: h.kind, op: opReset,
	}
}
