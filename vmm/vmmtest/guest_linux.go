package vmmtest

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"capsid/guest/link"
)

// readyLine is what the guest writes to its console when it serves the ports.
const readyLine = "vmmtest: guest is ready"

const guestStart = 2 * time.Minute

// guest is PID 1 of the machine under test. It does not return: when it fails, the kernel panics and the machine has crashed.
func guest() {
	m, err := bootGuest()
	if err != nil {
		fmt.Println("vmmtest: guest:", err)
		os.Exit(1)
	}
	fmt.Println(readyLine)
	<-m.Done()
	fmt.Println("vmmtest: guest: link ended:", m.Err())
	os.Exit(1)
}

func bootGuest() (link.Link, error) {
	for _, m := range []struct{ kind, path string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.path, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	if err := loadModules("/etc/capsid/modules"); err != nil {
		return nil, err
	}
	// A virtio console is there only now.
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	for fd := range 3 {
		if err := unix.Dup3(int(console.Fd()), fd, 0); err != nil {
			return nil, err
		}
	}
	if err := startCPUs(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), guestStart)
	defer cancel()
	m, err := link.Open(ctx)
	if err != nil {
		return nil, err
	}
	return m, serveAll(m)
}

// lastModule is the last that the agent loads before it opens the link (package agent); what follows is for a session.
const lastModule = "overlay.ko"

func loadModules(list string) error {
	b, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	for _, path := range strings.Fields(string(b)) {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("module %s: %w", path, err)
		}
		if filepath.Base(path) == lastModule {
			break
		}
	}
	return nil
}

// startCPUs does what package soft leaves to the guest's init.
func startCPUs() error {
	offline, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/online")
	if err != nil {
		return err
	}
	for _, path := range offline {
		if b, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(b)) == "1" {
			continue
		}
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			return err
		}
	}
	return nil
}

func serveAll(m link.Link) error {
	for _, s := range []struct {
		port  link.Port
		serve func(link.Conn)
	}{
		// The host dials the first as soon as there is a listener at all, and the others later.
		{callPort, func(c link.Conn) { serveCall(m, c) }},
		{echoPort, func(c link.Conn) { io.Copy(c, c); c.CloseWrite() }},
		{sourcePort, serveSource},
		{sinkPort, serveSink},
		{tickPort, serveTicks},
	} {
		l, err := m.Listen(s.port)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					s.serve(c.(link.Conn))
				}()
			}
		}()
	}
	return nil
}

func serveSource(c link.Conn) {
	var n [8]byte
	if _, err := io.ReadFull(c, n[:]); err == nil {
		newPattern().send(c, int64(binary.BigEndian.Uint64(n[:])))
		c.CloseWrite()
	}
}

func serveSink(c link.Conn) {
	n, err := newPattern().receive(c)
	if err != nil {
		fmt.Println("vmmtest: sink:", err)
		return
	}
	c.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func serveTicks(c link.Conn) {
	for {
		if _, err := c.Write([]byte{'.'}); err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func serveCall(m link.Link, c net.Conn) {
	var r request
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return
	}
	a, err := call(m, r)
	if err != nil {
		a.Error = err.Error()
	}
	json.NewEncoder(c).Encode(a)
}

// What the guest remembers.
var (
	counter atomic.Int64
	kept    lasting
)

func call(m link.Link, r request) (answer, error) {
	switch r.Op {
	case "about":
		return about()
	case "print":
		for i := range r.Count {
			fmt.Printf("%s %d\n", r.Text, i)
		}
		return answer{}, nil
	case "dial":
		return dialHost(m, r.Text)
	case "disk":
		return aboutDisk(r.Disk)
	case "read":
		return readDisk(r.Disk, r.Count)
	case "count":
		return answer{Count: int(counter.Add(1))}, nil
	case "begin":
		return answer{}, kept.begin(r.Disk)
	case "ticks":
		return answer{Count: int(kept.ticks.Load())}, nil
	case "go on":
		return kept.goOn()
	case "read direct":
		return readDirect(r.Disk, int64(r.Count))
	case "reseed":
		return answer{}, reseed(r.Text)
	case "random":
		b := make([]byte, 32)
		_, err := unix.Getrandom(b, 0)
		return answer{Text: hex.EncodeToString(b)}, err
	case "discard":
		return answer{}, clearDisk(r.Disk, unix.BLKDISCARD, 0)
	case "zero":
		return answer{}, clearDisk(r.Disk, unix.BLKZEROOUT, uint64(r.Count))
	case "use memory":
		return answer{}, useMemory(r.Count)
	case "write":
		return answer{}, writeDisk(r.Disk, r.Text)
	case "measure":
		return measureDisk(r)
	case "panic":
		return answer{}, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "exit":
		os.Exit(3)
	case "power off":
		unix.Sync()
		return answer{}, unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case "reboot":
		return answer{}, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return answer{}, fmt.Errorf("no such call: %q", r.Op)
}

func about() (answer, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return answer{}, err
	}
	online, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return answer{}, err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return answer{}, err
	}
	// "0", or "0-3": the processors of a fresh machine have no gaps.
	_, last, found := strings.Cut(strings.TrimSpace(string(online)), "-")
	n := 0
	if found {
		if n, err = strconv.Atoi(last); err != nil {
			return answer{}, err
		}
	}
	return answer{CPUs: n + 1, Memory: int64(info.Totalram) * int64(info.Unit), Cmdline: strings.TrimSpace(string(cmdline))}, nil
}

// dialHost sends text to the host and gives back what it answers, and how a port is refused on which nobody listens.
func dialHost(m link.Link, text string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), guestStart)
	defer cancel()
	if _, err := m.Dial(ctx, nobodyPort); !errors.Is(err, link.ErrRefused) {
		return answer{}, fmt.Errorf("dial of a port without a listener: %v", err)
	}
	c, err := m.Dial(ctx, hostPort)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return answer{}, err
	}
	if err := c.CloseWrite(); err != nil {
		return answer{}, err
	}
	b, err := io.ReadAll(c)
	return answer{Text: string(b)}, err
}

func aboutDisk(name string) (answer, error) {
	read := func(attr string) string {
		b, _ := os.ReadFile(filepath.Join("/sys/block", name, attr))
		return strings.TrimSpace(string(b))
	}
	sectors, err := strconv.ParseInt(read("size"), 10, 64)
	return answer{ReadOnly: read("ro") == "1", Cache: read("queue/write_cache"), Size: sectors * 512}, err
}

func readDisk(name string, n int) (answer, error) {
	f, err := os.Open(filepath.Join("/dev", name))
	if err != nil {
		return answer{}, err
	}
	defer f.Close()
	b := make([]byte, n)
	_, err = io.ReadFull(f, b)
	return answer{Text: string(b)}, err
}

// writeDisk writes at the disk's start and waits for the FLUSH.
func writeDisk(name, text string) error {
	f, err := os.OpenFile(filepath.Join("/dev", name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// clearDisk discards or zeroes the first n bytes of a disk, or all of it.
func clearDisk(name string, call uint, n uint64) error {
	f, err := os.OpenFile(filepath.Join("/dev", name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	// The kernel reads offset and length during the call only.
	span := [2]uint64{0, n}
	if n == 0 {
		span[1] = uint64(size)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(call), uintptr(unsafe.Pointer(&span))); errno != 0 {
		return fmt.Errorf("ioctl %#x: %w", call, errno)
	}
	return nil
}

// useMemory touches n bytes and lets go of them.
func useMemory(n int) error {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < n; i += os.Getpagesize() {
		b[i] = 1
	}
	return unix.Munmap(b)
}
