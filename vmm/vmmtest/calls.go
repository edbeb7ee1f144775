package vmmtest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"capsid/guest/link"
)

// The ports that the guest listens on.
const (
	callPort   link.Port = 5000 + iota // one request and one answer, JSON
	echoPort                           // bytes back as they come, half-close by half-close
	sourcePort                         // eight bytes say how many come back
	sinkPort                           // counts and checks what comes, and answers with the number, eight bytes
	tickPort                           // a byte every few milliseconds
	nobodyPort                         // nobody listens here, in the guest as on the host
	hostPort                           // the host listens here
)

// request is what the host asks of the guest.
type request struct {
	Op    string
	Text  string `json:",omitempty"`
	Count int    `json:",omitempty"`
	Disk  string `json:",omitempty"`
}

// answer is what the guest says.
type answer struct {
	Count    int
	Error    string
	CPUs     int    // online
	Memory   int64  // bytes that the kernel manages
	Cmdline  string // of the kernel
	Text     string
	ReadOnly bool
	Cache    string // of the disk, "write back" when it takes FLUSH
	Size     int64
	Nanos    int64 // that a measurement took
}

// Ways to put a disk to work. All go past the guest's own cache (O_DIRECT).
const (
	readLong    = "read 1 MiB after 1 MiB"
	writeLong   = "write 1 MiB after 1 MiB"
	readRandom  = "read 4 KiB somewhere"
	readManyOf  = "read 4 KiB somewhere, 8 at a time"
	writeFlush  = "write 4 KiB and flush"
	longBlock   = 1 << 20
	randomBlock = 4 << 10
	atATime     = 8
)

// ask makes one call on a new stream.
func ask(conn link.Conn, r request) (answer, error) {
	defer conn.Close()
	var a answer
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return a, err
	}
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return a, fmt.Errorf("%s: %w", r.Op, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: guest: %s", r.Op, a.Error)
	}
	return a, nil
}

// pattern is a stream of bytes of which each block differs, that costs an emulated processor little to make and to check.
type pattern struct {
	block [64 << 10]byte
	count uint64
}

func newPattern() *pattern {
	p := &pattern{}
	x := uint32(1)
	for i := range p.block {
		x = x*1664525 + 1013904223
		p.block[i] = byte(x >> 24)
	}
	return p
}

func (p *pattern) next() []byte {
	p.count++
	binary.BigEndian.PutUint64(p.block[:], p.count)
	binary.BigEndian.PutUint64(p.block[len(p.block)/2:], p.count)
	return p.block[:]
}

// send writes n bytes of the pattern, a multiple of its block or not.
func (p *pattern) send(w io.Writer, n int64) error {
	for n > 0 {
		b := p.next()
		b = b[:min(int64(len(b)), n)]
		if _, err := w.Write(b); err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

var errPattern = errors.New("bytes differ from those sent")

// receive reads to the end and checks each byte.
func (p *pattern) receive(r io.Reader) (int64, error) {
	var total int64
	buf := make([]byte, len(p.block))
	for {
		n, err := io.ReadFull(r, buf)
		total += int64(n)
		if n > 0 && !bytes.Equal(buf[:n], p.next()[:n]) {
			return total, fmt.Errorf("%w, within the %d bytes before %d", errPattern, n, total)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
