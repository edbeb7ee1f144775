//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"capsid/guest/link"
)

// The descriptors that QEMU gets.
const (
	linkFD    = 3
	consoleFD = 4
)

// commonKernel are the outer kernel's parameters on every processor. A panic resets the machine, which ends QEMU (-no-reboot).
const commonKernel = " panic=-1 loglevel=5 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 cryptomgr.notests mitigations=off audit=0 random.trust_cpu=on " +
	"rcupdate.rcu_expedited=1"

// args is QEMU's command line.
func args(o options, t target, p parts, initrd, disk string) []string {
	list := append([]string{
		"-name", "capsid-lab", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "tcg,thread=single,tb-size=512",
		"-smp", "1", "-m", strconv.Itoa(o.memory) + "M",
		"-kernel", p.kernel, "-initrd", initrd, "-append", t.kernel + commonKernel,
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleFD), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=link,fd=%d", linkFD),
		"-device", "virtio-serial-pci,max_ports=2", "-device", "virtserialport,chardev=link,name=" + link.PortName,
		"-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng",
		"-blockdev", blockdev("image", "vmdk", disk), "-device", "virtio-blk-pci,drive=image",
	}, t.machine...)
	if p.root != "" {
		list = append(list, "-blockdev", blockdev("root", "raw", p.root), "-device", "virtio-blk-pci,drive=root")
	}
	return list
}

// blockdev describes a read-only disk in JSON (qapi/block-core.json), where a path may have any characters.
func blockdev(node, driver, path string) string {
	b, err := json.Marshal(map[string]any{
		"driver": driver, "node-name": node, "read-only": true,
		"file": map[string]any{"driver": "file", "filename": path, "read-only": true},
	})
	if err != nil {
		panic(err) // strings and booleans always can be
	}
	return string(b)
}

// process is a running QEMU.
type process struct {
	cmd    *exec.Cmd
	stderr tail
	ended  chan struct{}
	err    error // of Wait, once ended is closed
}

// startQEMU starts the program, with files from descriptor 3 on. It dies when this process does, however that ends.
func startQEMU(path string, args []string, files []*os.File) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	p.cmd.ExtraFiles = files
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true, // a terminal's signals are for this program
	}
	started := make(chan error)
	go func() {
		// Pdeathsig speaks of this thread's death (prctl(2)): it stays until QEMU has ended.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return p, nil
}

// kill ends the process and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}
