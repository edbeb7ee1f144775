package share

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// maxStreams are served at a time: the machine's, and one that has not noticed yet that it is dead.
const maxStreams = 2

// maxNodes is how many files one guest's kernel may keep in mind; each costs about 300 bytes here and four times that there.
const maxNodes = 2 << 20

// Main is the share process: what `capsid share-serve` runs. Start starts it; by hand it can only say so. It returns when
// its parent ends or closes the control socket.
func Main(args []string) error {
	if len(args) != 0 {
		return errors.New("share-serve: takes no arguments; it is started by a session")
	}
	var st unix.Stat_t
	if err := unix.Fstat(controlFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("share-serve: is started by a session, not by hand")
	}
	// A file that grows beyond a limit of the user's is an error for the guest, not our end.
	signal.Ignore(unix.SIGXFSZ)
	var set settings
	if err := receiveJSON(controlFD, &set); err != nil {
		return fmt.Errorf("share-serve: settings: %w", err)
	}
	host, err := prepare(set)
	if err != nil {
		err = fmt.Errorf("share-serve: %w", err)
		_ = sendJSON(controlFD, report{Error: err.Error()})
		return err
	}
	if err := sendJSON(controlFD, report{Defences: host.defences}); err != nil {
		return fmt.Errorf("share-serve: report: %w", err)
	}
	return host.run()
}

// host is the share process, with its walls up.
type host struct {
	settings settings
	proc     int // /proc/self/fd
	most     limits
	defences []string
}

// prepare takes what is needed and puts the walls up around it.
func prepare(set settings) (*host, error) {
	h := &host{settings: set}
	if err := closeOthers(); err != nil {
		return nil, fmt.Errorf("close inherited files: %w", err)
	}
	unix.Umask(0) // the guest's kernel has applied its own
	files, err := raiseFiles()
	if err != nil {
		return nil, err
	}
	h.most = limits{nodes: maxNodes, descriptors: files / 4, handles: files / 8}
	if h.proc, err = unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("/proc is needed: %w", err)
	}
	fd, err := openAt(folderFD, ".")
	if err != nil {
		return nil, fmt.Errorf("the folder cannot be walked safely (Linux 5.6 or newer is needed): %w", err)
	}
	_ = unix.Close(fd)
	h.defences, err = confine(set)
	return h, err
}

// run serves the streams that come over the control socket.
func (h *host) run() error {
	var streams sync.WaitGroup
	slots := make(chan struct{}, maxStreams)
	var mu sync.Mutex
	open := map[*os.File]bool{}
	defer func() {
		mu.Lock()
		for f := range open {
			_ = f.Close()
		}
		mu.Unlock()
		streams.Wait()
	}()
	for {
		fd, err := receiveSocket(controlFD)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("share-serve: control: %w", err)
		}
		stream := os.NewFile(uintptr(fd), "stream")
		select {
		case slots <- struct{}{}:
		default:
			_ = stream.Close()
			fmt.Fprintln(os.Stderr, "share: too many streams at once")
			continue
		}
		mu.Lock()
		open[stream] = true
		mu.Unlock()
		streams.Go(func() {
			if err := h.serve(stream); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			mu.Lock()
			delete(open, stream)
			mu.Unlock()
			<-slots
		})
	}
}

// serve answers one stream from a table of its own.
func (h *host) serve(stream *os.File) error {
	defer stream.Close()
	root, err := unix.FcntlInt(folderFD, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("share: %w", err)
	}
	f, err := newFolder(root, h.proc, h.settings.Owners, h.settings.ReadOnly, h.most)
	if err != nil {
		_ = unix.Close(root)
		return fmt.Errorf("share: %w", err)
	}
	defer f.close()
	return serve(stream, f, os.Stderr)
}

// receiveSocket takes the socket of the next stream.
func receiveSocket(control int) (int, error) {
	var one [1]byte
	room := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	err := retry(func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(control, one[:], room, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return -1, err
	}
	if n == 0 {
		return -1, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(room[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("a message without a socket")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("a message without a socket")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		return -1, err
	}
	return fds[0], nil
}
