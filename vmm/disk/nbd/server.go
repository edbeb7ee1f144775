package nbd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// Transmission. Names and values are those of doc/proto.md.
const (
	magicRequest = 0x25609513
	magicReply   = 0x67446698
	requestSize  = 28

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6

	cmdFUA    = 1 << 0
	cmdNoHole = 1 << 1

	errPermission = 1
	errIO         = 5
	errInvalid    = 22
	errNoSpace    = 28
)

const (
	minBlock       = 512 // a sector: clients send no smaller requests
	preferredBlock = 4096
	// maxTransfer is the most that one request reads or writes. With maxInFlight it bounds the memory that a client takes, to 32 MiB.
	maxTransfer = 2 << 20
	maxInFlight = 16
	// zeroPiece is how much is zeroed before a look at whether the client is still there; it may have to be written.
	zeroPiece = 64 << 20
)

// Disk is what is served; see disk.Stack. Its methods are called side by side.
type Disk interface {
	Size() int64
	ReadOnly() bool
	Readv(v [][]byte, off int64, atOnce bool) (int, error)
	Writev(v [][]byte, off int64, atOnce bool) (int, error)
	Sync() error
	Discard(off, n int64) error
	Zero(off, n int64, unmap bool) error
}

type server struct {
	conn net.Conn
	in   *bufio.Reader
	disk Disk

	slots   chan struct{} // one for each request in flight
	buffers sync.Pool
	work    sync.WaitGroup
	gone    chan struct{}

	writing sync.Mutex // of replies
}

// Serve serves a disk to one client until it leaves, which is no error, or breaks the protocol, which wraps ErrProtocol. It closes conn and returns when no request is
// in the works any more. Who wants it to end closes conn.
func Serve(conn net.Conn, d Disk) error {
	s := &server{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), disk: d, slots: make(chan struct{}, maxInFlight), gone: make(chan struct{})}
	s.buffers.New = func() any { return new([maxTransfer]byte) }
	err := s.handshake()
	if err == nil {
		err = s.transmit()
	}
	close(s.gone)
	broken := errors.Is(err, ErrProtocol)
	if broken {
		conn.Close() // no worker waits for it to read then
	}
	s.work.Wait()
	conn.Close()
	if broken {
		return err
	}
	return nil
}

// request is one in the works.
type request struct {
	flags, kind uint16
	handle      uint64
	off         uint64
	n           uint32
	buffer      *[maxTransfer]byte // of a read or a write
}

// transmit takes requests until the client leaves.
func (s *server) transmit() error {
	for {
		var b [requestSize]byte
		if _, err := io.ReadFull(s.in, b[:]); err != nil {
			return err
		}
		if be.Uint32(b[:]) != magicRequest {
			return fmt.Errorf("%w: a request begins with %#x", ErrProtocol, b[:4])
		}
		r := request{flags: be.Uint16(b[4:]), kind: be.Uint16(b[6:]), handle: be.Uint64(b[8:]), off: be.Uint64(b[16:]), n: be.Uint32(b[24:])}
		if r.kind == cmdDisconnect {
			return nil
		}
		if r.kind == cmdWrite && r.n > maxTransfer {
			return fmt.Errorf("%w: a write of %d bytes", ErrProtocol, r.n)
		}
		s.slots <- struct{}{}
		if r.kind == cmdWrite || r.kind == cmdRead && r.n <= maxTransfer {
			r.buffer = s.buffers.Get().(*[maxTransfer]byte)
		}
		if r.kind == cmdWrite {
			if _, err := io.ReadFull(s.in, r.buffer[:r.n]); err != nil {
				return err
			}
		}
		s.work.Go(func() {
			s.serve(&r)
			if r.buffer != nil {
				s.buffers.Put(r.buffer)
			}
			<-s.slots
		})
	}
}

// serve does what is asked and answers.
func (s *server) serve(r *request) {
	code := s.check(r)
	if code == 0 {
		if err := s.do(r); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			code = errNoSpace
		} else if err != nil {
			code = errIO
		}
	}
	head := be.AppendUint32(be.AppendUint32(make([]byte, 0, 16), magicReply), code)
	reply := net.Buffers{be.AppendUint64(head, r.handle)}
	if r.kind == cmdRead && code == 0 {
		reply = append(reply, r.buffer[:r.n])
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, err := reply.WriteTo(s.conn); err != nil {
		s.conn.Close() // which ends transmit
	}
}

// check says what is wrong with a request.
func (s *server) check(r *request) uint32 {
	allowed := uint16(0)
	switch r.kind {
	case cmdRead:
		if r.n > maxTransfer {
			return errInvalid
		}
		allowed = cmdFUA // which means nothing there
	case cmdWrite, cmdTrim:
		allowed = cmdFUA
	case cmdWriteZeroes:
		allowed = cmdFUA | cmdNoHole
	case cmdFlush:
		return 0
	default:
		return errInvalid
	}
	if r.flags&^allowed != 0 {
		return errInvalid
	}
	if r.kind != cmdRead && s.disk.ReadOnly() {
		return errPermission
	}
	if size := uint64(s.disk.Size()); r.off > size || uint64(r.n) > size-r.off {
		if r.kind == cmdWrite || r.kind == cmdWriteZeroes {
			return errNoSpace
		}
		return errInvalid
	}
	return 0
}

func (s *server) do(r *request) error {
	var err error
	off := int64(r.off) // within the disk
	switch r.kind {
	case cmdRead:
		_, err = s.disk.Readv([][]byte{r.buffer[:r.n]}, off, false)
		return err
	case cmdFlush:
		return s.disk.Sync()
	case cmdWrite:
		_, err = s.disk.Writev([][]byte{r.buffer[:r.n]}, off, false)
	case cmdTrim:
		err = s.disk.Discard(off, int64(r.n))
	case cmdWriteZeroes:
		for left := int64(r.n); left > 0 && err == nil; {
			select {
			case <-s.gone:
				return net.ErrClosed
			default:
			}
			n := min(left, zeroPiece)
			err = s.disk.Zero(off, n, r.flags&cmdNoHole == 0)
			off, left = off+n, left-n
		}
	}
	if err == nil && r.flags&cmdFUA != 0 {
		err = s.disk.Sync()
	}
	return err
}
