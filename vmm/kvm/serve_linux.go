package kvm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/board"
	"capsid/vmm/process"
	"capsid/vmm/virtio"
)

// The inherited descriptors of a machine's process, in order from process.FirstFD on. The disks follow.
const (
	fileSocket = iota
	fileKVM
	fileKernel
	fileInitrd
	fileConsole
	fileDisks
)

// Main is a machine's process: what Backend.Program runs with Backend.Args. It ends when the machine has ended or its owner is gone, and
// returns the exit status.
func Main() int {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		return 1
	}
	return 0
}

// server is the machine's end of the socket.
type server struct {
	socket socket
	board  *board.Board

	mu      sync.Mutex
	nextID  uint64
	decides map[uint64]func(accept bool) // streams of the guest that wait for the owner
	cancels map[uint64]func()            // dials that wait for the guest
}

func serve() error {
	// Of a process that is not dumpable this belongs to root, whose part this one may not play.
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	// What a guest may use against this process is less when nothing that it could run has more rights.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	// Nor does a core dump hold the guest's memory, or another process of the same user look into it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	socket, err := newSocket(inherited(fileSocket))
	if err != nil {
		return fmt.Errorf("this command is for capsid itself: %w", err)
	}
	s := &server{socket: socket, decides: map[uint64]func(bool){}, cancels: map[uint64]func(){}}
	m, _, err := socket.receive()
	if err != nil {
		return err
	}
	if m.Kind != start || m.Config == nil {
		return fmt.Errorf("%w: %q instead of a configuration", errMessage, m.Kind)
	}
	s.mu.Lock() // a stream of the guest waits until the owner knows that it has started
	s.board, err = s.make(*m.Config, pagemap)
	if err != nil {
		s.mu.Unlock()
		damaged := errors.Is(err, board.ErrState) || errors.Is(err, virtio.ErrState)
		return socket.send(message{Kind: started, Error: err.Error(), Damaged: damaged})
	}
	defer s.board.Close()
	err = socket.send(message{Kind: started})
	s.mu.Unlock()
	if err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { gone <- s.listen() }()
	select {
	case err := <-gone:
		return err
	case <-s.board.Done():
		end, err := s.board.Ended()
		m := message{Kind: ended, End: string(end)}
		if err != nil {
			m.Error = err.Error()
		}
		return socket.send(m)
	}
}

func inherited(i int) *os.File {
	fd := process.FirstFD + i
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), fmt.Sprintf("inherited file %d", i))
}

// make makes the machine of what was inherited.
func (s *server) make(c config, pagemap *os.File) (*board.Board, error) {
	cfg := board.Config{
		KVM: inherited(fileKVM), Cmdline: c.Cmdline, CPUs: c.CPUs, Memory: c.Memory, Console: inherited(fileConsole), Pagemap: pagemap,
		Stream: s.stream,
		Fault:  func(err error) { s.tell(message{Kind: fault, Error: err.Error()}) },
	}
	first, second, disks := inherited(fileKernel), inherited(fileInitrd), fileDisks
	var diff *os.File
	if c.Diff {
		diff = inherited(disks)
		disks++
	}
	for _, d := range c.Disks {
		stack := board.Disk{ReadOnly: d.ReadOnly}
		for range d.Layers {
			stack.Layers = append(stack.Layers, inherited(disks))
			disks++
		}
		cfg.Disks = append(cfg.Disks, stack)
	}
	if c.Restore {
		return board.Restore(cfg, board.Restored{Base: first, Diff: diff, State: second})
	}
	cfg.Kernel, cfg.Initrd = first, second
	return board.New(cfg)
}

// tell sends what the owner does not answer for. If it is gone, listen ends this process.
func (s *server) tell(m message, files ...*os.File) { _ = s.socket.send(m, files...) }

// stream tells the owner of a stream that the guest opens.
func (s *server) stream(port uint32, far *os.File, decide func(accept bool)) {
	s.mu.Lock()
	s.nextID++
	id := s.nextID
	s.decides[id] = decide
	s.mu.Unlock()
	s.tell(message{Kind: stream, ID: id, Port: port}, far)
	far.Close()
}

// listen does what the owner says until it is gone.
func (s *server) listen() error {
	for {
		m, files, err := s.socket.receive()
		if err != nil {
			if errors.Is(err, errMessage) {
				return err
			}
			return nil
		}
		if m.Kind != save {
			closeAll(files)
		}
		switch m.Kind {
		case dial:
			s.dial(m)
		case cancel:
			s.mu.Lock()
			stop := s.cancels[m.ID]
			delete(s.cancels, m.ID)
			s.mu.Unlock()
			if stop != nil {
				stop()
			}
		case answer:
			s.mu.Lock()
			decide := s.decides[m.ID]
			delete(s.decides, m.ID)
			s.mu.Unlock()
			if decide != nil {
				decide(m.OK)
			}
		case pause, resume:
			// It may take a while, and more may come meanwhile.
			go func() {
				if m.Kind == pause {
					s.board.Pause()
				} else {
					s.board.Resume()
				}
				s.tell(message{Kind: done, ID: m.ID})
			}()
		case save:
			go s.save(m, files)
		default:
			return fmt.Errorf("%w: %q", errMessage, m.Kind)
		}
	}
}

// save takes a snapshot. The new tops of the disks are the machine's from then on.
func (s *server) save(m message, files []*os.File) {
	defer closeAll(files)
	answer := message{Kind: done, ID: m.ID}
	if len(files) < 2 {
		answer.Error = errMessage.Error()
	} else if diff, err := s.board.Snapshot(board.Snapshot{RAM: files[0], State: files[1], Tops: files[2:], Stay: m.Stay, Frozen: func() { s.tell(message{Kind: frozen, ID: m.ID}) }}); err != nil {
		answer.Error = err.Error()
	} else {
		answer.Diff = diff
	}
	s.tell(answer)
}

func (s *server) dial(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The lock is held until the way to cancel is known; the answer comes on another goroutine.
	s.cancels[m.ID] = s.board.Dial(m.Port, func(far *os.File, err error) {
		s.mu.Lock()
		delete(s.cancels, m.ID)
		s.mu.Unlock()
		if err != nil {
			s.tell(message{Kind: dialed, ID: m.ID, Error: err.Error()})
			return
		}
		s.tell(message{Kind: dialed, ID: m.ID}, far)
		far.Close()
	})
}
