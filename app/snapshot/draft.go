package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Folder is where a session's snapshots lie.
func Folder(sessionFolder string) string { return filepath.Join(sessionFolder, "snapshots") }

// Draft is a snapshot that is being made: a hidden folder, locked for as long as its program lives, which Commit gives its name. It is used by one goroutine.
type Draft struct {
	folder, name string
	dir          string
	lock         *os.File // the open folder
	step         step
}

// step is told of each change that is about to be made on disk, and can stop it: the seam at which tests kill the program.
type step func(op, path string) error

func noStep(string, string) error { return nil }

// New begins a snapshot in the folder of a session's snapshots, which it makes if it is missing; what killed programs left there is removed. ErrName and ErrExists are about the name.
// The caller defers Abort.
func New(folder, name string) (*Draft, error) { return newDraft(folder, name, noStep) }

func newDraft(folder, name string, at step) (*Draft, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	d := &Draft{folder: folder, name: name, step: at}
	if err := d.begin(); err != nil {
		return nil, fmt.Errorf("begin snapshot %q: %w", name, err)
	}
	return d, nil
}

func (d *Draft) begin() error {
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	mutex, err := lockFolder(d.folder)
	if err != nil {
		return err
	}
	defer mutex.Close()
	sweep(d.folder)
	if taken(d.folder, d.name) {
		return exists(d.name)
	}
	if err := d.step("mkdir", d.folder); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp(d.folder, draftPrefix); err != nil {
		return err
	}
	// Under the mutex: nobody sweeps between the two.
	if d.lock, err = lockDraft(d.dir); err == nil && d.lock == nil {
		err = errors.New("somebody locks it")
	}
	if err == nil {
		err = d.step("mkdir done", d.dir)
	}
	if err != nil {
		return errors.Join(err, d.Abort())
	}
	return nil
}

// Dir is the folder to put the snapshot's files into: plain files alone, with names that CheckName likes. It is empty at first, and nothing writes there after Commit.
func (d *Draft) Dir() string { return d.dir }

// Commit makes the draft a snapshot: it digests the files, waits until they, the manifest and the folder are on disk, and gives the folder its name. When it returns nil the
// snapshot is there to stay; on an error there is none, and Abort removes the draft. m lacks Name, Files and maybe Created. progress,
// which may be nil, is told the bytes read, by one goroutine at a time.
func (d *Draft) Commit(ctx context.Context, m Manifest, progress func(done, total int64)) (*Snapshot, error) {
	if d.lock == nil {
		return nil, fmt.Errorf("finish snapshot %q: it was finished or given up before", d.name)
	}
	s, err := d.commit(ctx, m, progress)
	if err != nil {
		return nil, fmt.Errorf("finish snapshot %q: %w", d.name, err)
	}
	return s, nil
}

func (d *Draft) commit(ctx context.Context, m Manifest, progress func(done, total int64)) (*Snapshot, error) {
	m.Name = d.name
	if m.Created.IsZero() {
		m.Created = time.Now().UTC().Truncate(time.Millisecond)
	}
	if err := d.digestAll(ctx, &m, progress); err != nil {
		return nil, err
	}
	data, err := encode(&m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifestFile, err)
	}
	path := filepath.Join(d.dir, manifestFile)
	if err := d.step("write", path); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, err
	}
	if err := d.sync(path); err != nil {
		return nil, err
	}
	if err := d.sync(d.dir); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.publish(); err != nil {
		return nil, err
	}
	d.lock.Close()
	d.lock = nil
	return &Snapshot{Dir: d.dir, Name: d.name, Manifest: m}, nil
}

// publish gives the folder its name.
func (d *Draft) publish() error {
	mutex, err := lockFolder(d.folder)
	if err != nil {
		return err
	}
	defer mutex.Close()
	if taken(d.folder, d.name) { // rename(2) would replace an empty folder
		return exists(d.name)
	}
	final := filepath.Join(d.folder, d.name)
	if err := d.step("rename", final); err != nil {
		return err
	}
	if err := os.Rename(d.dir, final); err != nil {
		return err
	}
	// The folder of snapshots may be new itself.
	err = d.sync(d.folder)
	if err == nil {
		err = d.sync(filepath.Dir(d.folder))
	}
	if err != nil {
		// Whether it will be there after a power cut is unknown, so it must not be.
		return errors.Join(err, os.Rename(final, d.dir))
	}
	d.dir = final
	return nil
}

func (d *Draft) sync(path string) error {
	if err := d.step("sync", path); err != nil {
		return err
	}
	return syncPath(path)
}

func syncPath(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Abort removes what is not committed. It does nothing after Commit or Abort.
func (d *Draft) Abort() error {
	if d.lock == nil {
		if d.dir == "" || !isDraft(filepath.Base(d.dir)) {
			return nil
		}
		return os.RemoveAll(d.dir)
	}
	// The lock is let go last, so that nobody sweeps at the same time.
	err := os.RemoveAll(d.dir)
	err = errors.Join(err, d.lock.Close())
	d.lock = nil
	return err
}
