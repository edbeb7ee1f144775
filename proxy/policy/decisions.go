package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"capsid/proxy/ledger"
)

// Scopes of a decision.
const (
	ScopeSession = "session"
	ScopeProject = "project"
	ScopeAlways  = "always"
)

// maxDecisions bounds decisions.toml: a person clicks no more often.
const maxDecisions = 10000

// Decision is what a person decided about a host, by a click or on the command line.
type Decision struct {
	Host    string    `toml:"host"`              // a pattern, as in an allow list
	Action  string    `toml:"action"`            // "allow" or "block"
	Scope   string    `toml:"scope"`             // "session", "project" or "always"
	Project string    `toml:"project,omitempty"` // the workspace, for the scope "project"
	Time    time.Time `toml:"time"`
	From    string    `toml:"from"` // where it was made: "window", "command line"
}

type decisionsFile struct {
	Decision []Decision `toml:"decision"`
}

const decisionsHead = "# What was decided in Capsid, newest last. Written by the program; lines may be removed by hand.\n\n"

// Validate reports whether a decision may be recorded. Private addresses can never be opened this way.
func (d Decision) Validate() error {
	p, err := parsePattern(d.Host)
	if err != nil {
		return err
	}
	switch d.Action {
	case "allow":
		if p.prefix.IsValid() && Private(p.prefix.Addr()) || p.name == "localhost" || strings.HasSuffix(p.name, ".localhost") {
			return fmt.Errorf("%s is a private or local address: only a rule in user.toml can open it", d.Host)
		}
		if p.prefix.IsValid() && p.prefix.Bits() != p.prefix.Addr().BitLen() {
			return errors.New("a range of addresses can be opened in user.toml only")
		}
		if p.all {
			return errors.New(`"*" would allow everything: say so in user.toml with default = "allow" if you mean it`)
		}
	case "block":
	default:
		return fmt.Errorf("action %q: use allow or block", d.Action)
	}
	switch d.Scope {
	case ScopeSession, ScopeAlways:
	case ScopeProject:
		if !filepath.IsAbs(d.Project) {
			return errors.New("a decision for a project needs its folder")
		}
	default:
		return fmt.Errorf("scope %q: use session, project or always", d.Scope)
	}
	return nil
}

// Decide records a decision in a decisions.toml: atomically, and one writer at a time. It takes the place of an earlier one about the same
// host, scope and project.
func Decide(file string, d Decision) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := flock(lock); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	list, _, err := loadDecisions(file)
	if err != nil {
		return err
	}
	kept := list[:0]
	for _, old := range list {
		if old.Host != d.Host || old.Scope != d.Scope || old.Project != d.Project {
			kept = append(kept, old)
		}
	}
	if len(kept) >= maxDecisions {
		return fmt.Errorf("%s holds %d decisions: remove some by hand", file, len(kept))
	}
	d.Time = d.Time.UTC().Truncate(time.Second)
	body, err := toml.Marshal(decisionsFile{append(kept, d)})
	if err != nil {
		return err
	}
	return replace(file, append([]byte(decisionsHead), body...))
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}

// replace writes a file so that a reader, or a crash, finds the old bytes or the new ones.
func replace(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

func loadDecisions(file string) ([]Decision, map[string]place, error) {
	data, err := readFile(file)
	if err != nil || data == nil {
		return nil, nil, err
	}
	var doc decisionsFile
	if err := decodeStrict(file, data, &doc); err != nil {
		return nil, nil, err
	}
	return doc.Decision, positions(data), nil
}

// readDecisions returns the decisions that hold for a session, the narrower scope first and the newer first within one.
func readDecisions(p Paths) ([]entry, error) {
	scopes := map[string][]entry{}
	for _, file := range []string{p.SessionDecisions, p.Decisions} {
		if file == "" {
			continue
		}
		list, at, err := loadDecisions(file)
		if err != nil {
			return nil, err
		}
		for i := len(list) - 1; i >= 0; i-- {
			d, where := list[i], at[fmt.Sprintf("decision[%d]", i)]
			if err := d.Validate(); err != nil {
				return nil, &Error{File: file, Line: where.line, Column: where.column, Message: err.Error(), Hint: "correct or remove this decision"}
			}
			if d.Scope == ScopeProject && d.Project != p.Project || (d.Scope == ScopeSession) != (file == p.SessionDecisions) {
				continue
			}
			pat, err := parsePattern(d.Host)
			if err != nil {
				return nil, err
			}
			scopes[d.Scope] = append(scopes[d.Scope], entry{
				pattern: pat, action: ledger.Decision(d.Action),
				source: fmt.Sprintf("%s:%d", filepath.Base(file), where.line),
				reason: fmt.Sprintf("decided in the %s on %s for %s", d.From, d.Time.Local().Format("2006-01-02 15:04"), scopeText(d)),
			})
		}
	}
	return append(append(scopes[ScopeSession], scopes[ScopeProject]...), scopes[ScopeAlways]...), nil
}

func scopeText(d Decision) string {
	switch d.Scope {
	case ScopeSession:
		return "this session"
	case ScopeProject:
		return "this project"
	}
	return "always"
}

// IsPrivateHost reports whether host (canonical) is an address that no click can open, so that nothing offers to.
func IsPrivateHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && Private(a) || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
