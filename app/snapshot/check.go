package snapshot

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"capsid/app/session"
)

// What a manifest may hold at most.
const (
	maxFiles  = 512
	maxDisks  = 16
	maxLayers = 256
	maxText   = 4096    // bytes of a string
	maxSize   = 1 << 44 // bytes of a file: 16 TiB, the largest that ext4 has
	// maxWhole bounds files that are read with their holes, which cost nothing to make and a lot to read.
	maxWhole = 64 << 20
)

var (
	// A dot or a dash first would hide the folder or make it look like an option.
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	idPattern     = regexp.MustCompile(`^[0-9a-f]{8}$`)
	digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckName says whether this may name a snapshot: at most 64 letters, digits, dashes, dots and underscores, neither a dash nor a dot first, nor two dots in a row.
func CheckName(name string) error {
	if validName(name) {
		return nil
	}
	return &session.Error{
		Message: fmt.Sprintf("%.80q cannot name a snapshot", name),
		Hint:    "use at most 64 letters, digits, dashes, dots and underscores, a letter or digit first", Kind: ErrName,
	}
}

// CheckNote says whether this may be a snapshot's note: one line.
func CheckNote(note string) error {
	if showable(note) {
		return nil
	}
	return &session.Error{Message: "the note cannot be kept", Hint: fmt.Sprintf("use one line of at most %d bytes", maxText)}
}

func validName(name string) bool {
	return namePattern.MatchString(name) && !strings.Contains(name, "..")
}

func validParent(r *Ref) bool {
	return r == nil || idPattern.MatchString(r.Session) && validName(r.Snapshot)
}

// check says what a manifest cannot be. Every string but those that are paths is fit to be shown.
func (m *Manifest) check() error {
	s := &m.Session
	for what, text := range map[string]string{
		"session name": s.Name, "agent": s.Agent, "access": string(s.Access), "session backend": s.Backend, "session image": s.Image,
		"backend": m.Backend, "capsid": m.Capsid, "image": m.Image, "user name": m.User.Name, "note": m.Note,
	} {
		if !showable(text) {
			return fmt.Errorf("%s has more than %d bytes, or some that cannot be shown", what, maxText)
		}
	}
	switch {
	case len(s.Workspace) > maxText || len(s.Policy) > maxText || len(m.User.Home) > maxText: // paths may have any bytes
		return errors.New("a path that is too long")
	case !validName(m.Name):
		return errors.New("a name that cannot be one")
	case !idPattern.MatchString(s.ID):
		return errors.New("a session ID that cannot be one")
	case m.Created.IsZero():
		return errors.New("no time")
	case m.Kind != Memory && m.Kind != Disk:
		return fmt.Errorf("unknown kind %.40q", m.Kind)
	case m.Backend == "":
		return errors.New("no backend")
	case !validParent(m.Parent) || !validParent(s.Parent):
		return errors.New("a parent that cannot be one")
	case s.CPUs < 0 || s.Memory < 0 || s.Memory > maxSize:
		return errors.New("processors or memory that cannot be")
	}
	if err := m.checkFiles(); err != nil {
		return err
	}
	return m.checkDisks()
}

func (m *Manifest) checkFiles() error {
	if len(m.Files) == 0 || len(m.Files) > maxFiles {
		return fmt.Errorf("%d files: 1 to %d can be", len(m.Files), maxFiles)
	}
	layers := m.layers()
	for name, f := range m.Files {
		switch {
		case !validName(name) || name == manifestFile:
			return fmt.Errorf("a file that cannot be called %.80q", name)
		case f.Size < 0 || f.Size > maxSize || !digestPattern.MatchString(f.SHA256):
			return fmt.Errorf("a bad entry for %q", name)
		case !f.Sparse && (f.Layer || f.Size > maxWhole):
			return fmt.Errorf("an entry for %q that is not sparse", name)
		case f.Layer != layers[name]:
			return fmt.Errorf("an entry for %q that does not say rightly whether it is a layer", name)
		}
	}
	return nil
}

func (m *Manifest) checkDisks() error {
	if len(m.Disks) > maxDisks {
		return fmt.Errorf("more than %d disks", maxDisks)
	}
	seen := map[string]bool{}
	for n, layers := range m.Disks {
		if len(layers) == 0 || len(layers) > maxLayers {
			return fmt.Errorf("disk %d has %d layers: 1 to %d can be", n, len(layers), maxLayers)
		}
		for _, name := range layers {
			f, ok := m.Files[name]
			if !ok {
				return fmt.Errorf("no entry for %.80q, a layer of disk %d", name, n)
			}
			if seen[name] || f.Size != m.Files[layers[0]].Size {
				return fmt.Errorf("%q cannot be a layer of disk %d", name, n)
			}
			seen[name] = true
		}
	}
	return nil
}

// layers are the files in which a hole shows what lies below.
func (m *Manifest) layers() map[string]bool {
	out := map[string]bool{}
	for _, layers := range m.Disks {
		for i, name := range layers {
			out[name] = i > 0
		}
	}
	for name := range m.Files {
		if _, ok := m.Files[name+".base"]; ok {
			out[name] = true
		}
	}
	return out
}

// showable: text that moves no cursor and turns no line round when it is printed.
func showable(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
	})
}
