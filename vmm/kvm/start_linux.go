package kvm

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"capsid/vmm"
	"capsid/vmm/console"
	"capsid/vmm/disk"
	"capsid/vmm/process"
)

// Start makes a machine. It returns when its processors run.
func (b Backend) Start(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) {
	return b.make(ctx, cfg, nil)
}

// make makes a new machine, or one from a snapshot.
func (b Backend) make(ctx context.Context, cfg vmm.Config, from *snapshotFiles) (vmm.Machine, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	device, err := os.OpenFile(devicePath, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		p := explainOpen(err, kvmLoaded())
		return nil, fmt.Errorf("%w: %s (%s)", vmm.ErrStart, p.Reason, p.Fix)
	}
	defer device.Close()
	m, err := b.launch(ctx, device, cfg, from)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", vmm.ErrStart, err)
	}
	m.info.Backend, m.info.Detail = b.Name(), detail()
	return m, nil
}

// launch opens all that the machine gets and starts its process. What was made is undone when a later step fails.
func (b Backend) launch(ctx context.Context, device *os.File, cfg vmm.Config, from *snapshotFiles) (_ *machine, err error) {
	var undo []func()
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { ours.conn.Close() })
	log, err := console.Open(cfg.Dir)
	if err != nil {
		theirs.Close()
		return nil, err
	}
	undo = append(undo, log.Close)
	text, writer, err := os.Pipe()
	if err != nil {
		theirs.Close()
		return nil, err
	}
	undo = append(undo, func() { text.Close() })

	files := []*os.File{fileSocket: theirs, fileKVM: device, fileConsole: writer}
	closeFiles := func() {
		for i, f := range files {
			if f != nil && i != fileKVM {
				f.Close()
			}
		}
		files = nil
	}
	defer closeFiles()
	c := config{Cmdline: cfg.Cmdline, CPUs: cfg.CPUs, Memory: cfg.Memory &^ int64(os.Getpagesize()-1)}
	if files[fileKernel], err = os.Open(cfg.Kernel); err != nil {
		return nil, err
	}
	if files[fileInitrd], err = os.Open(cfg.Initrd); err != nil {
		return nil, err
	}
	if from != nil {
		c.Restore = true
		if from.diff != "" {
			c.Diff = true
			f, err := os.Open(from.diff)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	for _, d := range cfg.Disks {
		// The locks are of the open files, which the machine's process shares: they end with that.
		layers, err := disk.OpenFiles(d.Files(), d.ReadOnly)
		if err != nil {
			return nil, err
		}
		files = append(files, layers...)
		c.Disks = append(c.Disks, diskConfig{len(layers), d.ReadOnly})
	}
	program, args := b.command()
	// The name is for whoever lists processes.
	proc, err := process.Start(program, append(slices.Clone(args), "capsid "+cfg.Name), files)
	if err != nil {
		return nil, err
	}
	closeFiles() // the process has its own; the ends of what it holds come only when it is the last to hold them
	undo = append(undo, proc.Kill)
	m := newMachine(proc, ours, log, text)
	m.info = vmm.Info{PID: proc.PID(), Started: time.Now()}
	m.dir = cfg.Dir
	if from != nil {
		m.ports.ready() // the guest said so once
	}
	if err := m.begin(ctx, c); err != nil {
		return nil, err
	}
	return m, nil
}
