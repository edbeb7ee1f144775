package image

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
	"sort"
	"time"
)

// Manifest says what an image is made of; manifest.json in its folder.
type Manifest struct {
	Created  time.Time         `json:"created"`
	Arch     string            `json:"arch"`     // Debian's name: amd64, arm64
	Release  string            `json:"release"`  // of the distribution: "debian trixie"
	Kernel   string            `json:"kernel"`   // uname -r
	Versions map[string]string `json:"versions"` // of what people ask for: claude, codex, gemini, node
	Inputs   Inputs            `json:"inputs"`
	Files    map[string]File   `json:"files"`
}

// Inputs are the digests of what the image was built from: the same inputs need no second build.
type Inputs struct {
	Root  string `json:"root"`  // release, packages, lock file and the rules of the build
	Agent string `json:"agent"` // SHA-256 of the agent's program
}

// File is one file of the image.
type File struct {
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// manifestLimit bounds what is read as a manifest.
const manifestLimit = 1 << 20

func readManifest(name string) (*Manifest, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, manifestLimit))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var m Manifest
	if err := dec.Decode(&m); err != nil {
		return nil, corrupt(manifestFile, err.Error())
	}
	for name, f := range m.Files {
		if name != filepath.Base(name) || f.Size < 0 || len(f.SHA256) != 2*sha256.Size {
			return nil, corrupt(manifestFile, fmt.Sprintf("a bad entry for %q", name))
		}
	}
	for _, name := range []string{packedFile, initrdFile, modulesFile, rootFile} {
		if _, ok := m.Files[name]; !ok {
			return nil, corrupt(manifestFile, "no entry for "+name)
		}
	}
	return &m, nil
}

// digest is the image's: the SHA-256 of its files' digests, in the order of their names. The rest of the manifest is a description of them.
func (m *Manifest) digest() string {
	names := make([]string, 0, len(m.Files))
	for name := range m.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%s  %d  %s\n", m.Files[name].SHA256, m.Files[name].Size, name)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (m *Manifest) write(name string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return writeSynced(name, append(data, '\n'), 0o644)
}

// corruptError says which file is wrong, and how.
type corruptError struct{ file, how string }

func corrupt(file, how string) error { return &corruptError{file, how} }

func (e *corruptError) Error() string {
	return fmt.Sprintf("%v: %s: %s: capsid image build makes a new one", ErrCorrupt, e.file, e.how)
}

func (e *corruptError) Is(target error) bool { return target == ErrCorrupt }

// CorruptFile is the name of the file that an error of Open or Verify is about; empty when it is about none.
func CorruptFile(err error) string {
	var c *corruptError
	if errors.As(err, &c) {
		return c.file
	}
	return ""
}
