package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The handshake. Names and values are those of doc/proto.md.
const (
	magicServer  = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption  = 0x49484156454f5054 // "IHAVEOPT"
	magicReplies = 0x0003e889045565a9

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optExportName = 1
	optAbort      = 2
	optList       = 3
	optInfo       = 6
	optGo         = 7

	repAck        = 1
	repServer     = 2
	repInfo       = 3
	repErrUnsup   = 1<<31 + 1
	repErrInvalid = 1<<31 + 3

	infoExport     = 0
	infoBlockSize  = 3
	exportPadding  = 124
	maxOptions     = 64
	maxOptionBytes = 8 << 10

	transHasFlags    = 1 << 0
	transReadOnly    = 1 << 1
	transFlush       = 1 << 2
	transFUA         = 1 << 3
	transTrim        = 1 << 5
	transWriteZeroes = 1 << 6
)

// ErrProtocol: the client does not keep to the protocol.
var ErrProtocol = errors.New("NBD protocol")

// errLeft: the client has gone in good order.
var errLeft = errors.New("left")

var be = binary.BigEndian

// handshake agrees with the client on the one disk that there is, whatever name it has for it. It returns when the client wants to transmit.
func (s *server) handshake() error {
	hello := be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption)
	if _, err := s.conn.Write(be.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)); err != nil {
		return err
	}
	var b [16]byte
	if _, err := io.ReadFull(s.in, b[:4]); err != nil {
		return err
	}
	flags := be.Uint32(b[:4])
	if flags&flagFixedNewstyle == 0 || flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return fmt.Errorf("%w: client's flags %#x", ErrProtocol, flags)
	}
	for range maxOptions {
		if _, err := io.ReadFull(s.in, b[:]); err != nil {
			return err
		}
		option, n := be.Uint32(b[8:]), be.Uint32(b[12:])
		if be.Uint64(b[:]) != magicOption || n > maxOptionBytes {
			return fmt.Errorf("%w: option %d of %d bytes", ErrProtocol, option, n)
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(s.in, data); err != nil {
			return err
		}
		if ready, err := s.option(option, data, flags&flagNoZeroes != 0); ready || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d options", ErrProtocol, maxOptions)
}

// option serves one, and says whether it was the last.
func (s *server) option(option uint32, data []byte, noZeroes bool) (ready bool, err error) {
	switch option {
	case optExportName:
		answer := s.export(nil)
		if !noZeroes {
			answer = append(answer, make([]byte, exportPadding)...)
		}
		_, err := s.conn.Write(answer)
		return true, err
	case optAbort:
		return false, errors.Join(s.answer(option, repAck, nil), errLeft)
	case optList:
		if len(data) != 0 {
			return false, s.answer(option, repErrInvalid, nil)
		}
		if err := s.answer(option, repServer, be.AppendUint32(nil, 0)); err != nil { // one with an empty name
			return false, err
		}
		return false, s.answer(option, repAck, nil)
	case optInfo, optGo:
		if !validInfo(data) {
			return false, s.answer(option, repErrInvalid, nil)
		}
		if err := s.answer(option, repInfo, s.export(be.AppendUint16(nil, infoExport))); err != nil {
			return false, err
		}
		sizes := be.AppendUint16(nil, infoBlockSize)
		for _, n := range []uint32{minBlock, preferredBlock, maxTransfer} {
			sizes = be.AppendUint32(sizes, n)
		}
		if err := s.answer(option, repInfo, sizes); err != nil {
			return false, err
		}
		return option == optGo, s.answer(option, repAck, nil)
	}
	return false, s.answer(option, repErrUnsup, nil)
}

// validInfo: a name, its length before it, and what the client wants to know, the number of it before that.
func validInfo(data []byte) bool {
	if len(data) < 6 {
		return false
	}
	n := uint64(be.Uint32(data))
	if n > uint64(len(data)-6) {
		return false
	}
	rest := data[4+n:]
	return len(rest) == 2+2*int(be.Uint16(rest))
}

// export appends the disk's size and what it can.
func (s *server) export(b []byte) []byte {
	flags := uint16(transHasFlags | transFlush | transFUA | transTrim | transWriteZeroes)
	if s.disk.ReadOnly() {
		flags = transHasFlags | transReadOnly | transFlush
	}
	return be.AppendUint16(be.AppendUint64(b, uint64(s.disk.Size())), flags)
}

func (s *server) answer(option, kind uint32, data []byte) error {
	b := be.AppendUint64(nil, magicReplies)
	for _, n := range []uint32{option, kind, uint32(len(data))} {
		b = be.AppendUint32(b, n)
	}
	_, err := s.conn.Write(append(b, data...))
	return err
}
