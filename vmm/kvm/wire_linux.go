package kvm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
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
	save   kind = "save"   // ID, Stay; descriptors: memory, state, one new top for each writable disk

	// And those of the machine:
	started kind = "started" // Error, and Damaged when it is the fault of a snapshot's files
	dialed  kind = "dialed"  // ID, Error or a descriptor
	stream  kind = "stream"  // ID, Port, a descriptor: the guest opens a stream
	frozen  kind = "frozen"  // ID of a save: the machine goes on, and what was frozen is being written
	done    kind = "done"    // ID of a pause, resume or save; Error; Diff
	fault   kind = "fault"   // Error: a device has stopped
	ended   kind = "ended"   // End, Error
)

// message is one packet, in JSON.
type message struct {
	Kind    kind
	ID      uint64  `json:",omitempty"`
	Port    uint32  `json:",omitempty"`
	OK      bool    `json:",omitempty"`
	Stay    bool    `json:",omitempty"`
	Diff    bool    `json:",omitempty"` // the memory saved is what differs from the first
	Damaged bool    `json:",omitempty"`
	End     string  `json:",omitempty"`
	Error   string  `json:",omitempty"`
	Config  *config `json:",omitempty"`
}

// config is what the process does not see from its descriptors.
type config struct {
	Cmdline string
	CPUs    int
	Memory  int64
	Disks   []diskConfig
	// Restore: instead of kernel and initramfs there are a snapshot's memory and state, and with Diff the memory of a later snapshot in front of the disks.
	Restore, Diff bool
}

// diskConfig says how many of the descriptors are a disk's.
type diskConfig struct {
	Layers   int
	ReadOnly bool
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

// maxFiles bounds the descriptors of a message: those of a snapshot of a machine with eight disks.
const maxFiles = 2 + 8

// send sends m, with copies of files.
func (s socket) send(m message, files ...*os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = s.conn.WriteMsgUnix(b, oob, nil)
	runtime.KeepAlive(files) // closed by its finalizer a file's number could become another's
	return err
}

// receive waits for a message; the files are the caller's. What is malformed is an error, as is the end.
func (s socket) receive() (message, []*os.File, error) {
	var m message
	b, oob := make([]byte, maxMessage+1), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := s.conn.ReadMsgUnix(b, oob)
	if err != nil {
		return m, nil, err
	}
	files, err := descriptors(oob[:oobn])
	switch {
	case err != nil:
	case n == 0:
		err = io.EOF
	case n > maxMessage || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(files) > maxFiles:
		err = fmt.Errorf("%w: %d bytes and %d descriptors", errMessage, n, len(files))
	default:
		if e := json.Unmarshal(b[:n], &m); e != nil {
			err = fmt.Errorf("%w: %w", errMessage, e)
		}
	}
	if err != nil {
		closeAll(files)
		return m, nil, err
	}
	return m, files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
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
