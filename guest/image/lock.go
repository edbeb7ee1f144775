package image

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

//go:embed lock.toml
var lockFile []byte

// Package is one npm package of the lock file.
type Package struct {
	Name      string            `toml:"name"` // what people know it by: "claude"
	NPM       string            `toml:"npm"`
	Version   string            `toml:"version"`
	Arch      string            `toml:"arch"`      // empty: any
	Integrity string            `toml:"integrity"` // "sha512-" and base64
	Into      string            `toml:"into"`
	Strip     int               `toml:"strip"` // leading folders to take off, beyond the tarball's own
	Keep      []string          `toml:"keep"`
	Drop      []string          `toml:"drop"`
	Reach     string            `toml:"reach"`
	Links     map[string]string `toml:"links"` // path in the root → target, below Into unless absolute
}

// Packages is what the lock file has for an architecture (Debian's name).
func Packages(arch string) ([]Package, error) { return parseLock(lockFile, arch) }

func parseLock(data []byte, arch string) ([]Package, error) {
	var lock struct {
		Package []Package `toml:"package"`
	}
	dec := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := dec.Decode(&lock); err != nil {
		return nil, fmt.Errorf("lock file: %w", tomlError(err))
	}
	var out []Package
	seen := map[string]bool{}
	for _, p := range lock.Package {
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("lock file: package %q: %w", p.Name, err)
		}
		if p.Arch != "" && p.Arch != arch {
			continue
		}
		if seen[p.Name] {
			return nil, fmt.Errorf("lock file: package %q: twice for %s", p.Name, arch)
		}
		seen[p.Name] = true
		out = append(out, p)
	}
	return out, nil
}

// tomlError puts line and column in front, and the offending key for one that is unknown.
func tomlError(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		line, column := strict.Errors[0].Position()
		return fmt.Errorf("%d:%d: unknown key %q", line, column, strings.Join(strict.Errors[0].Key(), "."))
	}
	var dec *toml.DecodeError
	if errors.As(err, &dec) {
		line, column := dec.Position()
		return fmt.Errorf("%d:%d: %w", line, column, err)
	}
	return err
}

// npm takes URLs, folders and tags in the place of a name; a lock names packages only.
var (
	npmName    = regexp.MustCompile(`^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$`)
	npmVersion = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
)

func (p Package) validate() error {
	switch {
	case p.Name == "":
		return errors.New("no name")
	case !npmName.MatchString(p.NPM):
		return fmt.Errorf("%q is not the name of an npm package", p.NPM)
	case !npmVersion.MatchString(p.Version):
		return fmt.Errorf("%q is not an exact version", p.Version)
	case !path.IsAbs(p.Into) || path.Clean(p.Into) != p.Into || p.Into == "/":
		return fmt.Errorf("into = %q is not a folder of the root", p.Into)
	case p.Strip < 0:
		return errors.New("strip is negative")
	}
	for at := range p.Links {
		if !path.IsAbs(at) || path.Clean(at) != at {
			return fmt.Errorf("link %q is not an absolute path", at)
		}
	}
	_, err := p.sum()
	return err
}

// sum is the SHA-512 that the package's tarball must have.
func (p Package) sum() ([]byte, error) {
	text, ok := strings.CutPrefix(p.Integrity, "sha512-")
	sum, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(sum) != 64 {
		return nil, fmt.Errorf("integrity %q is not a SHA-512", p.Integrity)
	}
	return sum, nil
}

// version is the version without the name of a platform.
func (p Package) version() string {
	v, _, _ := strings.Cut(p.Version, "-linux-")
	return v
}

// wants says whether a file of the package, by its path after Strip, is unpacked.
func (p Package) wants(name string) bool {
	for _, pattern := range p.Drop {
		if match(pattern, name) {
			return false
		}
	}
	if len(p.Keep) == 0 {
		return true
	}
	for _, pattern := range p.Keep {
		if match(pattern, name) {
			return true
		}
	}
	return false
}

// match is path.Match, and "dir/**" for all below dir.
func match(pattern, name string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
		// The folder may be a pattern itself; it has as many parts as the pattern.
		parts := strings.Split(name, "/")
		depth := strings.Count(dir, "/") + 1
		if len(parts) <= depth {
			return false
		}
		name, pattern = strings.Join(parts[:depth], "/"), dir
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
