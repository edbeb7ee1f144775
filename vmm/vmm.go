// Package vmm is all that the roof knows of machines: what one is made of, how it is started, and how it is talked to.
// The backends (soft, later kvm and vz) satisfy Backend and Machine; package vmmtest holds the suite that each must pass.
package vmm

import (
	"context"
	"errors"
	"time"

	"capsid/guest/link"
)

// Config says what a machine is made of.
type Config struct {
	Name    string // for messages and process titles
	Kernel  string // path of the kernel: on x86-64 a vmlinux (ELF with a PVH note) or a bzImage, on arm64 an Image
	Initrd  string // path of the initramfs
	Cmdline string // kernel parameters beyond the backend's own
	CPUs    int    // 1–16; 0 means 2
	Memory  int64  // bytes; 0 means 4 GiB
	Disks   []Disk // virtio-blk, in this order: the first is /dev/vda
	Dir     string // a folder of this machine's own: sockets, console log; it must exist
}

// Disk is one block device, backed by a plain file or by a stack of them (see package disk). A machine whose disks are stacks can be snapshot; Path is
// short for a stack of one.
type Disk struct {
	Path     string   // either the file
	Layers   []string // or the files from the bottom to the top, all of one size; the top is written unless ReadOnly
	ReadOnly bool
}

// Files are the paths of the disk's layers, from the bottom to the top.
func (d Disk) Files() []string {
	if len(d.Layers) > 0 {
		return d.Layers
	}
	return []string{d.Path}
}

// Capabilities says what a backend can do, so that the roof asks no backend for its name.
type Capabilities struct {
	Accelerated bool // runs the guest's instructions natively
	Snapshot    bool
}

// Probe is what a backend found out about this host.
type Probe struct {
	Usable bool
	Reason string // one line: why it is or is not usable
	Fix    string // a command that makes it usable, when there is one
	Detail string // version or device, for doctor
}

// Backend starts machines.
type Backend interface {
	Name() string // "kvm", "soft", "vz"
	Capabilities() Capabilities
	// Probe looks at the host, in under a second, and changes nothing.
	Probe(ctx context.Context) Probe
	// Start makes a machine and lets its processors run. It returns as soon as they do: whether the guest is up is the
	// caller's to find out, by dialing. On failure nothing is left behind. ctx bounds Start alone.
	Start(ctx context.Context, cfg Config) (Machine, error)
}

// Machine is a running virtual machine. Its methods may be called from any goroutine.
type Machine interface {
	// Link opens streams to the guest and takes those that it opens. Listeners may be made before the guest is up.
	link.Link
	// Pause stops all virtual processors; streams stay open. Resume lets them run again. Each is idempotent.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// Close (of link.Link) ends the machine at once, as pulling the plug does, and waits until nothing of it is left.
	// A guest that powers off ends its machine too: Done is closed and Err is nil then.

	// Console returns the last lines that the guest wrote to its console, without control characters, at most n.
	Console(n int) []string
	// Info describes the running machine for people.
	Info() Info
}

// Info describes a running machine.
type Info struct {
	Backend string
	Detail  string // for instance "QEMU 7.2.22, TCG"
	PID     int    // of the process that is the machine
	Started time.Time
}

var (
	// ErrConfig: the configuration cannot be right; the error names the field.
	ErrConfig = errors.New("machine configuration")
	// ErrStart: the machine's process could not be started or failed at once.
	ErrStart = errors.New("machine start")
	// ErrSnapshot: files that are no snapshot of this backend and version, or are damaged.
	ErrSnapshot = errors.New("machine snapshot")
	// ErrCrashed: the machine ended without being asked to and without powering off. The error carries the last console lines.
	ErrCrashed = errors.New("machine crashed")
)
