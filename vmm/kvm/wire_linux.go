package kvm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// kind says what a message is about. Those of the machine's owner:
type kind string

const (
	start  kind = "start"  // Config; the descriptors are inherited, see files
	dial   kind = "dial"   // ID, Port: open a stream to the guest
	cancel kind = "cancel" // ID of a dial that nobody waits for any more
	answer kind = "answer" // ID of a stream, OK: take it or refuse it
	pause  kind = "pause"  // ID
	resume kind = "resume" // ID

	// And those of the machine:
	started kind = "started" // Error
	dialed  kind = "dialed"  // ID, Error or a descriptor
	stream  kind = "stream"  // ID, Port, a descriptor: the guest opens a stream
	done    kind = "done"    // ID of a pause or resume
	fault   kind = "fault"   // Error: a device has stopped
	ended   kind = "ended"   // End, Error
)

// message is one packet, in JSON.
type message struct {
	Kind   kind
	ID     uint64  `json:",omitempty"`
	Port   uint32  `json:",omitempty"`
	OK     bool    `json:",omitempty"`
	End    string  `json:",omitempty"`
	Error  string  `json:",omitempty"`
	Config *config `json:",omitempty"`
}

// config is what the process does not see from its descriptors.
type config struct {
	Cmdline  string
	CPUs     int
	Memory   int64
	ReadOnly []bool // one for each disk
}

// maxMessage bounds a packet: a command line and some numbers.
const maxMessage = 16 << 10

var errMessage = errors.New("malformed message")

// socket carries messages. Send may be called from many goroutines, receive from one.
type socket struct{ conn *net.UnixConn }

// socketPair makes both ends; the second is for another process.
func socketPair() (socket, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return socket{}, nil, fmt.Errorf("socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "machine socket")
	ours, err := newSocket(os.NewFile(uintptr(fds[0]), "machine socket"))
	if err != nil {
		theirs.Close()
		return socket{}, nil, err
	}
	return ours, theirs, nil
}

// newSocket takes f over.
func newSocket(f *os.File) (socket, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return socket{}, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return socket{}, fmt.Errorf("descriptor %s is not a unix socket", f.Name())
	}
	return socket{unixConn}, nil
}

// send sends m, with a copy of f if there is one.
func (s socket) send(m message, f *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	var oob []byte
	if f != nil {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		var sent error
		// Within Control the descriptor cannot be closed and its number cannot become another's.
		err = raw.Control(func(fd uintptr) {
			oob = unix.UnixRights(int(fd))
			_, _, sent = s.conn.WriteMsgUnix(b, oob, nil)
		})
		return errors.Join(err, sent)
	}
	_, _, err = s.conn.WriteMsgUnix(b, nil, nil)
	return err
}

// receive waits for a message; the file is nil or the caller's. What is malformed is an error, as is the end.
func (s socket) receive() (message, *os.File, error) {
	var m message
	b, oob := make([]byte, maxMessage+1), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := s.conn.ReadMsgUnix(b, oob)
	if err != nil {
		return m, nil, err
	}
	files, err := descriptors(oob[:oobn])
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	switch {
	case err != nil:
	case n == 0:
		err = io.EOF
	case n > maxMessage || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(files) > 1:
		err = fmt.Errorf("%w: %d bytes and %d descriptors", errMessage, n, len(files))
	default:
		if e := json.Unmarshal(b[:n], &m); e != nil {
			err = fmt.Errorf("%w: %w", errMessage, e)
		}
	}
	if err != nil {
		closeAll()
		return m, nil, err
	}
	if len(files) == 1 {
		return m, files[0], nil
	}
	return m, nil, nil
}

func descriptors(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMessage, err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "stream"))
		}
	}
	return files, nil
}
