package soft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"capsid/vmm"
	"capsid/vmm/disk"
)

// The files of a snapshot: the memory, in which holes are zeros; QEMU's migration stream, which holds the devices; and what they are of, which is written last.
const (
	memoryFile  = "ram"
	streamFile  = "qemu"
	machineFile = "machine.json"

	formatVersion = 2
	maxDescribed  = 64 << 10 // bytes of machineFile
)

// described is machineFile: QEMU loads a stream into a machine that is made the same way by the same version of it.
type described struct {
	Format  string          `json:"format"` // "capsid soft"
	Version int             `json:"version"`
	Arch    string          `json:"arch"`
	QEMU    string          `json:"qemu"`
	CPUs    int             `json:"cpus"`
	Memory  int64           `json:"memory"`
	Disks   []describedDisk `json:"disks"`
	Stream  int64           `json:"stream"` // bytes of streamFile
}

type describedDisk struct {
	Size     int64 `json:"size"`
	ReadOnly bool  `json:"readOnly"`
}

// describe is without the length of the stream.
func describe(cfg vmm.Config, qemu string) (described, error) {
	d := described{
		Format: "capsid soft", Version: formatVersion, Arch: runtime.GOARCH, QEMU: qemu,
		CPUs: cfg.CPUs, Memory: cfg.Memory, Disks: []describedDisk{},
	}
	for _, c := range cfg.Disks {
		info, err := os.Stat(c.Files()[0])
		if err != nil {
			return d, err
		}
		d.Disks = append(d.Disks, describedDisk{info.Size(), c.ReadOnly})
	}
	return d, nil
}

// over says whether a migration of that status has ended (qapi/migration.json).
func over(status string) bool {
	return status == "completed" || status == "failed" || status == "cancelled"
}

// cancelTime bounds what is to be done after a snapshot was given up.
const cancelTime = 10 * time.Second

// Snapshot is that of vmm.Snapshotter. The machine rests until its memory and its devices are written.
func (m *machine) Snapshot(ctx context.Context, s vmm.SnapshotConfig) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	if err := ended(m.snapshot(ctx, s)); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

func (m *machine) snapshot(ctx context.Context, s vmm.SnapshotConfig) (err error) {
	tops, err := m.disks.openTops(s.Tops)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range tops { // those that no stack has taken
			f.Close()
		}
	}()
	d, err := describe(m.cfg, m.info.Detail)
	if err != nil {
		return err
	}
	stream, err := os.OpenFile(filepath.Join(s.Dir, streamFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer stream.Close()
	running, err := m.rest(ctx)
	if err != nil {
		return err
	}
	err = m.save(ctx, stream)
	var memory *os.File
	if err == nil {
		memory, err = m.saveMemory(ctx, s.Dir)
	}
	if memory != nil {
		defer memory.Close()
	}
	if err == nil {
		tops, err = m.disks.freeze(tops)
	}
	if running && (err != nil || !s.Stay) {
		// Also when ctx has ended: the machine goes on whatever comes of the snapshot.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		err = errors.Join(err, m.goOn(late))
	}
	if err != nil {
		return err
	}
	if s.Frozen != nil {
		s.Frozen()
	}
	if err := errors.Join(stream.Sync(), memory.Sync(), m.disks.syncFrozen()); err != nil {
		return err
	}
	info, err := stream.Stat()
	if err != nil {
		return err
	}
	d.Stream = info.Size()
	return writeDescribed(s.Dir, d)
}

// rest stops the processors, with what the disks were sent flushed, in a state that QEMU saves, and says whether they ran.
func (m *machine) rest(ctx context.Context) (running bool, err error) {
	status, err := m.status(ctx)
	if err != nil {
		return false, err
	}
	if status.Status == "postmigrate" || status.Status == "finish-migrate" {
		// A machine that rests since another snapshot. QEMU saves none twice without that it ran in between, if for an instant.
		if err := m.goOn(ctx); err != nil {
			return false, err
		}
	}
	return status.Running, m.mon.do(ctx, "stop")
}

// runState is StatusInfo of qapi/run-state.json.
type runState struct {
	Running bool   `json:"running"`
	Status  string `json:"status"`
}

func (m *machine) status(ctx context.Context) (s runState, err error) {
	raw, err := m.mon.call(ctx, "query-status", nil, nil)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("QEMU query-status: %w", err)
	}
	return s, nil
}

// finishPoll is how often goOn looks whether QEMU has come to the end of a migration; it says that one is complete a little earlier, and nothing afterwards.
const finishPoll = time.Millisecond

// goOn lets the processors run after a migration.
func (m *machine) goOn(ctx context.Context) error {
	tick := time.NewTicker(finishPoll)
	defer tick.Stop()
	for {
		s, err := m.status(ctx)
		if err != nil {
			return err
		}
		if s.Status != "finish-migrate" {
			return m.mon.do(ctx, "cont")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// save has QEMU write its devices to f and waits for it.
func (m *machine) save(ctx context.Context, f *os.File) error {
	if err := m.prepare(ctx, f); err != nil {
		return err
	}
	if _, err := m.mon.call(ctx, "migrate-set-parameters", map[string]int64{"max-bandwidth": math.MaxInt64 >> 16}, nil); err != nil {
		return err
	}
	if _, err := m.mon.call(ctx, "migrate", map[string]string{"uri": "fd:" + fdName}, nil); err != nil {
		return err
	}
	err := m.migration(ctx)
	if ctx.Err() != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		if cancelled := m.mon.do(late, "migrate_cancel"); cancelled == nil {
			m.migration(late) // by either end
		}
		return ctx.Err()
	}
	return err
}

// fdName is what QEMU knows the stream's file by.
const fdName = "snapshot"

// prepare gives QEMU the file of the next migration, and asks to be told of its end.
func (m *machine) prepare(ctx context.Context, f *os.File) error {
	select {
	case <-m.migrated: // one that was given up
	default:
	}
	events := map[string]any{"capabilities": []any{
		map[string]any{"capability": "events", "state": true},
		map[string]any{"capability": "x-ignore-shared", "state": true},
	}}
	if _, err := m.mon.call(ctx, "migrate-set-capabilities", events, nil); err != nil {
		return err
	}
	_, err := m.mon.call(ctx, "getfd", map[string]string{"fdname": fdName}, f)
	return err
}

// migration waits for the end of one.
func (m *machine) migration(ctx context.Context) error {
	select {
	case status := <-m.migrated:
		if status == "completed" {
			return nil
		}
		why := struct {
			Desc string `json:"error-desc"`
		}{status}
		if raw, err := m.mon.call(ctx, "query-migrate", nil, nil); err == nil {
			json.Unmarshal(raw, &why)
		}
		return fmt.Errorf("QEMU migrate: %s", why.Desc)
	case <-m.mon.done:
		return m.mon.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func writeDescribed(dir string, d described) error {
	b, err := json.MarshalIndent(d, "", "\t")
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, machineFile+".new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, machineFile)); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// openTops opens the files that disks go on in, one for each that is written.
func (d *disks) openTops(paths []string) ([]*os.File, error) {
	if n := len(d.written()); len(paths) != n {
		return nil, fmt.Errorf("%d new tops for %d disks that are written", len(paths), n)
	}
	var tops []*os.File
	for _, path := range paths {
		f, err := disk.OpenFiles([]string{path}, false)
		if err != nil {
			for _, f := range tops {
				f.Close()
			}
			return nil, err
		}
		tops = append(tops, f...)
	}
	return tops, nil
}

func (d *disks) written() []*disk.Stack {
	var list []*disk.Stack
	for _, s := range d.stacks {
		if s != nil && !s.ReadOnly() {
			list = append(list, s)
		}
	}
	return list
}

// freeze puts the tops on the disks and gives back those that none has taken. When one fails, those before it have theirs and work on.
func (d *disks) freeze(tops []*os.File) ([]*os.File, error) {
	for _, s := range d.written() {
		if err := s.Freeze(tops[0]); err != nil {
			return tops, fmt.Errorf("freeze a disk: %w", err)
		}
		tops = tops[1:]
	}
	return tops, nil
}

func (d *disks) syncFrozen() error {
	for _, s := range d.written() {
		if err := s.SyncFrozen(); err != nil {
			return fmt.Errorf("write frozen disks: %w", err)
		}
	}
	return nil
}
