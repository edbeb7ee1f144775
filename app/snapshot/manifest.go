package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"capsid/app/session"
	"capsid/guest/control"
)

// Version is that of the folders that this program writes. It goes up when a program of the version before would restore something wrong, not for each new field: those
// are refused by their names.
const Version = 1

// Kind is what a snapshot holds.
type Kind string

const (
	Memory Kind = "memory" // memory, processors, devices and disks: programs go on
	Disk   Kind = "disk"   // the disks alone: the machine boots on them
)

// Manifest says what a snapshot is; manifest.json in its folder. Commit fills in Name, Files and, if it is zero, Created.
type Manifest struct {
	Name    string          `json:"name"`
	Created time.Time       `json:"created"`
	Session session.Session `json:"session"` // as it was
	Backend string          `json:"backend"` // that ran the machine
	Capsid  string          `json:"capsid"`  // version of the program
	Image   string          `json:"image"`   // digest; layers lie on this image's files
	Kind    Kind            `json:"kind"`
	// Parent is the snapshot that the machine had been restored from; nil when it was booted.
	Parent *Ref `json:"parent,omitempty"`
	// Disks has, for each writable disk in order, the names of its layers' files from the bottom to the top.
	Disks [][]string      `json:"disks,omitempty"`
	Files map[string]File `json:"files"`
	User  control.User    `json:"user"`           // of the guest; without a name when the machine is nobody's yet
	Note  string          `json:"note,omitempty"` // one line, a person's
}

// Ref names a snapshot, or with an empty Snapshot a session.
type Ref = session.SnapshotRef

// File is one file of a snapshot.
type File struct {
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
	// Sparse says that SHA256 is that of the pages with data; see digest. Other files' is what sha256sum prints.
	Sparse bool `json:"sparse,omitempty"`
	// Layer says that a hole shows what lies below, so that it is something else than a page of zeros. It is set for what Disks names above the bottom, and for a
	// file "x" beside an "x.base". Layers are sparse.
	Layer bool `json:"layer,omitempty"`
}

const (
	manifestFile = "manifest.json"
	// manifestLimit bounds a manifest's file: the largest that check lets pass has about a third of it.
	manifestLimit = 1 << 20
)

// envelope is what the file holds: the manifest and the digest of its bytes as json.Compact leaves them.
type envelope struct {
	Version  int             `json:"version"`
	SHA256   string          `json:"sha256"`
	Snapshot json.RawMessage `json:"snapshot"`
}

// encode checks a manifest and returns its file.
func encode(m *Manifest) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	data, err := json.MarshalIndent(envelope{Version, hex.EncodeToString(sum[:]), raw}, "", "  ")
	if err == nil && len(data) >= manifestLimit {
		err = errors.New("it is too long")
	}
	return append(data, '\n'), err
}

// decode is the inverse for the manifest of the folder called name. The errors are ErrDamaged and ErrNewer.
func decode(name string, data []byte) (*Manifest, error) {
	if len(data) > manifestLimit {
		return nil, damaged(name, manifestFile, "too long")
	}
	// The version first: what else a newer file has is unknown.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, damaged(name, manifestFile, err.Error())
	}
	if v.Version > Version {
		return nil, newer(name, fmt.Sprintf("version %d; this program reads %d", v.Version, Version))
	}
	if v.Version != Version {
		return nil, damaged(name, manifestFile, fmt.Sprintf("version %d", v.Version))
	}
	var e envelope
	if err := strict(data, &e); err != nil {
		return nil, refusal(name, err)
	}
	var raw bytes.Buffer
	if err := json.Compact(&raw, e.Snapshot); err != nil { // absent
		return nil, damaged(name, manifestFile, "no snapshot in it")
	}
	if sum := sha256.Sum256(raw.Bytes()); e.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, damaged(name, manifestFile, "its SHA-256 is not what it says")
	}
	var m Manifest
	if err := strict(raw.Bytes(), &m); err != nil {
		return nil, refusal(name, err)
	}
	if err := m.check(); err != nil {
		return nil, damaged(name, manifestFile, err.Error())
	}
	if m.Name != name {
		return nil, damaged(name, manifestFile, fmt.Sprintf("it is that of %q", m.Name))
	}
	return &m, nil
}

func strict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows it")
	}
	return nil
}

// refusal tells a field that this program does not know from a file that is broken: encoding/json has no type for the first.
func refusal(name string, err error) error {
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return newer(name, "unknown field "+field)
	}
	return damaged(name, manifestFile, err.Error())
}

func readManifest(dir string) (*Manifest, error) {
	name := filepath.Base(dir)
	f, err := openPlain(filepath.Join(dir, manifestFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, damaged(name, manifestFile, "missing")
	case errors.Is(err, errNotPlain):
		return nil, damaged(name, manifestFile, err.Error())
	case err != nil:
		return nil, fmt.Errorf("snapshot %q: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, manifestLimit+1))
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", name, err)
	}
	return decode(name, data)
}

var errNotPlain = errors.New("not a plain file")

// openPlain opens a file to be read that must be none of those that lead elsewhere or block.
func openPlain(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a symbolic link, a socket
		return nil, errNotPlain
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errNotPlain
	}
	return f, nil
}
