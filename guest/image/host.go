package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// distribution is which release an image is made of, and where its packages come from.
type distribution struct {
	Name       string // "debian" or "ubuntu"
	Codename   string
	Kernel     string // the package that depends on the current kernel
	Components []string
	mirror     mirror
	security   *mirror // nil when the host has none
}

type mirror struct {
	uri      string
	signedBy string // path of a keyring, the key itself, or empty for apt's own default
}

// debianRelease is what a Debian host of any release takes: its kernel has what the guest needs, and the keyring of the release before knows it.
const debianRelease = "trixie"

// errHost: this host's packages cannot make an image.
var errHost = errors.New("no mirror to build an image from")

// readDistribution decides by /etc/os-release and /etc/apt below root.
func readDistribution(root, arch string) (*distribution, error) {
	release, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHost, err)
	}
	sources, err := readSources(filepath.Join(root, "etc/apt"))
	if err != nil {
		return nil, err
	}
	return chooseDistribution(parseRelease(release), sources, arch)
}

func chooseDistribution(release map[string]string, sources []aptSource, arch string) (*distribution, error) {
	like := strings.Fields(release["ID"] + " " + release["ID_LIKE"])
	has := func(id string) bool {
		for _, l := range like {
			if l == id {
				return true
			}
		}
		return false
	}
	var d *distribution
	switch {
	case has("ubuntu"):
		codename := release["UBUNTU_CODENAME"]
		if codename == "" {
			codename = release["VERSION_CODENAME"]
		}
		d = &distribution{Name: "ubuntu", Codename: codename, Kernel: "linux-image-virtual", Components: []string{"main", "universe"}}
	case has("debian"):
		d = &distribution{Name: "debian", Codename: debianRelease, Kernel: "linux-image-cloud-" + arch, Components: []string{"main"}}
	default:
		return nil, fmt.Errorf("%w: %s is neither Debian nor Ubuntu nor made of them; build the image on such a host and copy its folder", errHost, release["ID"])
	}
	if d.Codename == "" {
		return nil, fmt.Errorf("%w: /etc/os-release has no VERSION_CODENAME", errHost)
	}
	best := 0
	for _, s := range sources {
		if len(s.uris) == 0 {
			continue
		}
		m := mirror{uri: s.uris[0], signedBy: s.signedBy}
		score, security := rate(s, d.Name)
		if security && d.security == nil {
			d.security = &m
		}
		if score > best {
			best, d.mirror = score, m
		}
	}
	if best == 0 {
		return nil, fmt.Errorf("%w: /etc/apt names no %s archive; add the mirror of the release to /etc/apt/sources.list", errHost, d.Name)
	}
	return d, nil
}

// rate says how surely a source is the archive of the distribution itself: third parties use its suites' names for their own too. 0 is not at all.
func rate(s aptSource, name string) (score int, security bool) {
	main := false
	for _, c := range s.components {
		main = main || c == "main"
	}
	if !main {
		return 0, false
	}
	for _, suite := range s.suites {
		if strings.HasSuffix(suite, "-security") || strings.HasSuffix(suite, "/updates") {
			security = true
		}
	}
	uri := s.uris[0]
	// Debian's security archive is one of its own; Ubuntu's may be the main one under another name.
	if strings.HasSuffix(uri, "/debian-security") {
		return 0, security && name == "debian"
	}
	if strings.HasSuffix(uri, "/"+name) || strings.HasSuffix(uri, "/"+name+"-ports") {
		score += 4
	}
	if strings.Contains(s.signedBy, name+"-archive-keyring") {
		score += 2
	}
	if s.file == "sources.list" || s.file == name+".sources" {
		score++
	}
	if score < 2 {
		return 0, false
	}
	for _, suite := range s.suites {
		if !strings.Contains(suite, "-") { // the release itself, not its updates alone
			score += 2
			break
		}
	}
	return score, security && name == "ubuntu"
}

// lines are the sources as mmdebstrap takes them. keyring turns what a source is signed by into the path of a file.
func (d *distribution) lines(keyring func(signedBy string) (string, error)) ([]string, error) {
	var out []string
	add := func(m mirror, suites ...string) error {
		file, err := keyring(m.signedBy)
		if err != nil {
			return err
		}
		options := ""
		if file != "" {
			options = "[signed-by=" + file + "] "
		}
		for _, suite := range suites {
			out = append(out, fmt.Sprintf("deb %s%s %s %s", options, m.uri, suite, strings.Join(d.Components, " ")))
		}
		return nil
	}
	if err := add(d.mirror, d.Codename, d.Codename+"-updates"); err != nil {
		return nil, err
	}
	if d.security != nil {
		if err := add(*d.security, d.Codename+"-security"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseRelease reads os-release(5).
func parseRelease(data []byte) map[string]string {
	out := map[string]string{}
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		key, value, ok := strings.Cut(strings.TrimSpace(sc.Text()), "=")
		if ok && !strings.HasPrefix(key, "#") {
			out[key] = strings.Trim(value, `"'`)
		}
	}
	return out
}
