package vmmtest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lasting is what a program of the guest has in memory and in the kernel, and a snapshot keeps.
type lasting struct {
	mu     sync.Mutex
	ticks  atomic.Int64 // counts on as long as the machine runs
	file   *os.File     // read in part
	in     *os.File     // of a pipe that half a line was written to
	out    *os.File
	socket net.Listener
	disk   *os.File // written and not flushed
}

// begin makes it.
func (l *lasting) begin(disk string) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := os.WriteFile(lastingFile, []byte(lastingText), 0o600); err != nil {
		return err
	}
	if l.file, err = os.Open(lastingFile); err != nil {
		return err
	}
	if _, err := io.ReadFull(l.file, make([]byte, lastingRead)); err != nil {
		return err
	}
	if l.out, l.in, err = os.Pipe(); err != nil {
		return err
	}
	if _, err := io.WriteString(l.in, halfLine); err != nil {
		return err
	}
	if l.socket, err = net.Listen("unix", lastingSocket); err != nil {
		return err
	}
	if l.disk, err = os.OpenFile(filepath.Join("/dev", disk), os.O_RDWR, 0); err != nil {
		return err
	}
	if _, err := l.disk.WriteAt([]byte(unflushed), unflushedAt); err != nil {
		return err
	}
	go func() {
		for {
			time.Sleep(time.Millisecond)
			l.ticks.Add(1)
		}
	}()
	return nil
}

// goOn uses all of it once, and says what it found: the rest of the file, the line of the pipe, and what came by the socket.
func (l *lasting) goOn() (answer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest, err := io.ReadAll(l.file)
	if err != nil {
		return answer{}, err
	}
	if _, err := io.WriteString(l.in, otherHalf); err != nil {
		return answer{}, err
	}
	l.in.Close()
	line, err := io.ReadAll(l.out)
	if err != nil {
		return answer{}, err
	}
	client, err := net.Dial("unix", lastingSocket)
	if err != nil {
		return answer{}, err
	}
	defer client.Close()
	served, err := l.socket.Accept()
	if err != nil {
		return answer{}, err
	}
	defer served.Close()
	if _, err := io.WriteString(client, "hello"); err != nil {
		return answer{}, err
	}
	hello := make([]byte, 5)
	if _, err := io.ReadFull(served, hello); err != nil {
		return answer{}, err
	}
	return answer{Text: fmt.Sprintf("%s|%s|%s", rest, line, hello)}, l.disk.Sync()
}

// readDirect reads the block at off past the guest's cache.
func readDirect(name string, off int64) (answer, error) {
	f, err := os.OpenFile(filepath.Join("/dev", name), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return answer{}, err
	}
	defer f.Close()
	// Mapped memory begins at a page, as O_DIRECT wants it.
	mem, err := unix.Mmap(-1, 0, randomBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return answer{}, err
	}
	defer unix.Munmap(mem)
	_, err = f.ReadAt(mem, off)
	return answer{Text: string(mem)}, err
}

// reseed takes up the host's randomness, 32 bytes in hexadecimal digits, as the agent does: RNDADDENTROPY and RNDRESEEDCRNG of linux/random.h.
func reseed(text string) error {
	seed, err := hex.DecodeString(text)
	if err != nil || len(seed) != 32 {
		return errors.New("32 bytes are wanted")
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info := struct {
		bits, size int32
		seed       [32]byte
	}{256, 32, [32]byte(seed)}
	// unsafe: the kernel reads the struct, which is as long as size says, during the call only.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), 0x40085203, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return fmt.Errorf("RNDADDENTROPY: %w", errno)
	}
	return unix.IoctlSetInt(int(f.Fd()), 0x5207, 0)
}
