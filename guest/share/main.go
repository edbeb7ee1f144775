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
	if err := sendJSON(controlFD, report{Defences: host.defences, Lost: host.lost}); err != nil {
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
	volumes  *volumes
	lost     int // handles of a state that was loaded
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
	if h.defences, err = confine(set); err != nil {
		return nil, err
	}
	h.volumes = &volumes{open: h.openFolder}
	if !set.Load {
		return h, nil
	}
	if h.lost, err = h.load(); err != nil {
		return nil, err
	}
	return h, nil
}

// load takes over the state that the parent sends.
func (h *host) load() (lost int, err error) {
	order, fd, err := receiveOrder(controlFD)
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	pipe := os.NewFile(uintptr(fd), "state")
	defer pipe.Close()
	if order != orderLoad {
		return 0, errors.New("state: it did not come")
	}
	b, err := io.ReadAll(io.LimitReader(pipe, maxState+1))
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	return h.volumes.load(b)
}

// save writes the state to a pipe.
func (h *host) save(pipe *os.File) error {
	defer pipe.Close()
	b, err := h.volumes.save()
	kind := []byte{0}
	if err != nil {
		kind, b = []byte{1}, []byte(err.Error())
	}
	for _, part := range [][]byte{kind, b} {
		if _, err := pipe.Write(part); err != nil {
			return fmt.Errorf("share: hand the state over: %w", err)
		}
	}
	return nil
}

// run does what it is ordered to.
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
		h.volumes.close()
	}()
	for {
		order, fd, err := receiveOrder(controlFD)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("share-serve: control: %w", err)
		}
		stream := os.NewFile(uintptr(fd), "stream")
		if order == orderSave {
			if err := h.save(stream); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			continue
		}
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

// serve answers one stream.
func (h *host) serve(stream *os.File) error {
	defer stream.Close()
	return serve(stream, h.volumes, os.Stderr)
}

// openFolder makes an empty table over the folder.
func (h *host) openFolder() (*folder, error) {
	root, err := unix.FcntlInt(folderFD, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f, err := newFolder(root, h.proc, h.settings.Owners, h.settings.ReadOnly, h.most)
	if err != nil {
		_ = unix.Close(root)
	}
	return f, err
}

// receiveOrder takes the next order and its descriptor.
func receiveOrder(control int) (byte, int, error) {
	var one [1]byte
	room := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	err := retry(func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(control, one[:], room, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return 0, -1, err
	}
	if n == 0 {
		return 0, -1, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(room[:oobn])
	if err != nil || len(messages) != 1 {
		return 0, -1, errors.New("an order without a descriptor")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, -1, errors.New("an order without a descriptor")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		return 0, -1, err
	}
	return one[0], fds[0], nil
}
