package kvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capsid/guest/link"
	"capsid/vmm"
	"capsid/vmm/vmmtest"
)

// BenchmarkPeer is this backend beside QEMU's microvm on the same /dev/kvm. "make bench-lab" runs it; elsewhere it needs vhost_vsock and QEMU.
func BenchmarkPeer(b *testing.B) {
	if _, err := exec.LookPath(peerProgram); err != nil {
		b.Skipf("%v; make bench-lab has it", err)
	}
	if _, err := os.Stat(vhostVsock); err != nil {
		b.Skipf("%v; make bench-lab has it", err)
	}
	vmmtest.Compare(b, realBackend(b), peer{}, vmmtest.Options{OneAtATime: true})
}

// realBackend is this backend as people have it: its processes are of the whole program.
func realBackend(b *testing.B) Backend {
	program := filepath.Join(os.Getenv("CAPSID_BIN"), "capsid")
	if _, err := os.Stat(program); err != nil {
		b.Fatalf("%v; make build makes it", err)
	}
	return Backend{Program: program, Args: []string{serveCommand}}
}

const (
	peerProgram = "qemu-system-x86_64"
	vhostVsock  = "/dev/vhost-vsock"
	peerCID     = 3
)

// peer is QEMU's microvm as fast as it is known to be: no device that the machine of this package has not, modern virtio, the firmware that only
// loads a kernel, and vsock in the host's kernel.
type peer struct{ vmm.Backend }

func (peer) Name() string { return "microvm" }

func peerArgs(cfg vmm.Config) ([]string, error) {
	list := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "kvm", "-cpu", "host",
		"-M", "microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=off,pcie=off,usb=off,auto-kernel-cmdline=off,x-option-roms=off",
		"-bios", "qboot.rom", // with acpi=on the default is SeaBIOS
		"-global", "virtio-mmio.force-legacy=false",
		"-smp", strconv.Itoa(cfg.CPUs), "-m", strconv.FormatInt(cfg.Memory>>20, 10) + "M",
		"-kernel", cfg.Kernel, "-initrd", cfg.Initrd,
		"-append", peerCmdline + " " + cfg.Cmdline,
		"-chardev", "file,id=console,path=" + peerConsole(cfg), "-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=console",
		"-device", fmt.Sprintf("vhost-vsock-device,guest-cid=%d", peerCID),
		"-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng",
		"-device", "virtio-balloon-device,free-page-reporting=on",
	}
	for i, d := range cfg.Disks {
		node := fmt.Sprintf("disk%d", i)
		b, err := json.Marshal(map[string]any{
			"driver": "raw", "node-name": node, "read-only": d.ReadOnly, "discard": "unmap",
			"file": map[string]any{"driver": "file", "filename": d.Path, "aio": "threads", "discard": "unmap"},
		})
		if err != nil {
			return nil, err
		}
		list = append(list, "-blockdev", string(b), "-device", "virtio-blk-device,drive="+node)
	}
	return list, nil
}

// peerCmdline is what the machine of package board tells its kernel (board.cmdline), but for what is of its own hardware.
const peerCmdline = "console=hvc0 quiet panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 mitigations=off init_on_alloc=0 hardened_usercopy=off " +
	"randomize_kstack_offset=off audit=0 cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on 8250.nr_uarts=0 pci=off no_timer_check"

func peerConsole(cfg vmm.Config) string { return filepath.Join(cfg.Dir, "console.log") }

// Start runs QEMU. There is nothing that says when its processors run; who dials waits anyway.
func (peer) Start(_ context.Context, cfg vmm.Config) (vmm.Machine, error) {
	args, err := peerArgs(cfg)
	if err != nil {
		return nil, err
	}
	ready, err := listenReady()
	if err != nil {
		return nil, err
	}
	m := &peerMachine{cfg: cfg, up: make(chan struct{}), done: make(chan struct{}), cmd: exec.Command(peerProgram, args...), ready: ready}
	m.cmd.Stderr = &m.stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.started = time.Now()
	if err := m.cmd.Start(); err != nil {
		ready.Close()
		return nil, err
	}
	go m.waitReady()
	go func() {
		m.err = fmt.Errorf("QEMU: %w: %s", errors.Join(m.cmd.Wait(), link.ErrClosed), m.stderr.String())
		close(m.done)
	}()
	return m, nil
}

// peerMachine is all of a vmm.Machine that a comparison needs.
type peerMachine struct {
	vmm.Machine
	cfg     vmm.Config
	cmd     *exec.Cmd
	stderr  strings.Builder // until done
	ready   *os.File        // listens on link.Ready
	started time.Time
	up      chan struct{}
	done    chan struct{}
	err     error
}

func (m *peerMachine) Done() <-chan struct{} { return m.done }

func (m *peerMachine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

func (m *peerMachine) Close() error {
	m.cmd.Process.Kill()
	<-m.done
	m.ready.Close()
	return nil
}

func (m *peerMachine) Console(n int) []string {
	b, _ := os.ReadFile(peerConsole(m.cfg))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[max(0, len(lines)-n):]
}

func (m *peerMachine) Info() vmm.Info {
	return vmm.Info{Backend: "microvm", PID: m.cmd.Process.Pid, Started: m.started}
}

// waitReady waits for the guest's first word, as the machine of this package does.
func (m *peerMachine) waitReady() {
	raw, err := m.ready.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
		if err == nil {
			unix.Close(c)
			close(m.up)
		}
		return err != unix.EAGAIN
	})
}

func listenReady() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: uint32(link.Ready)})
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for the guest: %w", err)
	}
	return os.NewFile(uintptr(fd), "vsock"), nil
}

// Dial opens a stream to the guest. Its window is that of the guest's own sockets (package link).
func (m *peerMachine) Dial(ctx context.Context, port link.Port) (link.Conn, error) {
	select {
	case <-m.up:
	case <-m.done:
		return nil, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for _, option := range []int{unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE, unix.SO_VM_SOCKETS_BUFFER_SIZE} {
		err = errors.Join(err, unix.SetsockoptUint64(fd, unix.AF_VSOCK, option, peerWindow))
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrVM{CID: peerCID, Port: uint32(port)})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("dial port %d: %w", port, err)
	}
	return peerConn{os.NewFile(uintptr(fd), "vsock"), port}, nil
}

const peerWindow = 1 << 20

type peerConn struct {
	*os.File
	port link.Port
}

func (c peerConn) LocalAddr() net.Addr  { return address{c.port} }
func (c peerConn) RemoteAddr() net.Addr { return address{c.port} }

func (c peerConn) CloseWrite() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	return errors.Join(raw.Control(func(fd uintptr) { failed = unix.Shutdown(int(fd), unix.SHUT_WR) }), failed)
}
