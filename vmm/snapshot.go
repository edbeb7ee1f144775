package vmm

import "context"

// SnapshotConfig says where a snapshot goes.
type SnapshotConfig struct {
	Dir string // a folder that exists and is empty: the machine's memory and state
	// Tops are files that exist and are empty but for their size, one for each writable disk in order: the machine writes there from now on, and what it wrote before is
	// frozen with the snapshot.
	Tops []string
	Stay bool // at rest, instead of going on at once
	// Frozen, if set, is called once the machine goes on (or stays), before what was frozen is written: nothing changes the snapshot any more.
	Frozen func()
}

// Snapshotter is a Machine of a backend whose Capabilities say Snapshot.
type Snapshotter interface {
	Machine
	// Snapshot stops the machine for the moment in which processors, devices and disks are frozen, lets it go on, and then writes what was frozen. It
	// returns when everything is on the host's disk. When it fails the machine goes on, and the folder is the caller's to remove.
	Snapshot(ctx context.Context, s SnapshotConfig) error
}

// Restorer is a Backend that makes machines of snapshots.
type Restorer interface {
	Backend
	// Restore makes a machine that goes on where the snapshot in dir was taken. cfg has the processors and the memory that it had then, and disks whose
	// layers below the top are those that were frozen; kernel and initramfs are in memory already. The machine rests until Resume. Streams of the link are gone; new ones
	// can be opened once it runs. Its errors wrap ErrSnapshot when the files cannot be what a snapshot left.
	Restore(ctx context.Context, cfg Config, dir string) (Machine, error)
}
