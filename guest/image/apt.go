package image

import (
	"bufio"
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// aptSource is one entry of the host's apt configuration, in the sense of sources.list(5).
type aptSource struct {
	uris       []string
	suites     []string
	components []string
	signedBy   string // path of a keyring, or the key itself
	file       string // where it stands
}

// readSources reads the sources of an apt configuration folder (/etc/apt): sources.list and the parts in sources.list.d, of both styles.
func readSources(dir string) ([]aptSource, error) {
	names, err := filepath.Glob(filepath.Join(dir, "sources.list.d", "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var out []aptSource
	for _, name := range append([]string{filepath.Join(dir, "sources.list")}, names...) {
		ext := filepath.Ext(name)
		if ext != ".list" && ext != ".sources" {
			continue
		}
		data, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("apt configuration: %w", err)
		}
		parsed := parseList(data)
		if ext == ".sources" {
			parsed = parseDeb822(data)
		}
		for _, s := range parsed {
			s.file = filepath.Base(name)
			s.uris = resolveMirrors(s.uris)
			out = append(out, s)
		}
	}
	return out, nil
}

// parseList reads the one-line style: deb [ option=value … ] uri suite component… Lines of other kinds, and those that apt would refuse, are left out:
// what matters is which mirror the host can use.
func parseList(data []byte) []aptSource {
	var out []aptSource
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		line, _, _ := strings.Cut(sc.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t' && rest[0] != '[') {
			continue
		}
		var s aptSource
		rest = strings.TrimSpace(rest)
		if options, ok := strings.CutPrefix(rest, "["); ok {
			var inside string
			if inside, rest, ok = strings.Cut(options, "]"); !ok {
				continue
			}
			for _, o := range strings.Fields(inside) {
				if key, value, _ := strings.Cut(o, "="); strings.EqualFold(key, "signed-by") {
					s.signedBy = value
				}
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 {
			continue
		}
		s.uris, s.suites, s.components = fields[:1], fields[1:2], fields[2:]
		out = append(out, s)
	}
	return out
}

// parseDeb822 reads the style of .sources files: stanzas of "Key: value", with continuation lines that begin with a blank.
func parseDeb822(data []byte) []aptSource {
	var out []aptSource
	stanza := map[string]string{}
	key := ""
	flush := func() {
		types, enabled := strings.Fields(stanza["types"]), strings.ToLower(strings.TrimSpace(stanza["enabled"]))
		s := aptSource{
			uris: strings.Fields(stanza["uris"]), suites: strings.Fields(stanza["suites"]), components: strings.Fields(stanza["components"]),
			signedBy: strings.TrimSpace(stanza["signed-by"]),
		}
		binary := false
		for _, t := range types {
			binary = binary || t == "deb"
		}
		if binary && enabled != "no" && enabled != "false" && enabled != "0" && len(s.uris) > 0 && len(s.suites) > 0 {
			out = append(out, s)
		}
		stanza, key = map[string]string{}, ""
	}
	for _, line := range strings.Split(string(data), "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case line == "":
			flush()
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if key == "" {
				continue
			}
			part := line[1:]
			if strings.TrimSpace(part) == "." { // an empty line of a key block
				part = ""
			}
			stanza[key] += "\n" + part
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				key = ""
				continue
			}
			key = strings.ToLower(name)
			stanza[key] = strings.TrimSpace(value)
		}
	}
	flush()
	return out
}

// resolveMirrors turns the list of mirrors that "mirror+file:" names (cloud images of Debian have that) into its entries, and leaves out what is no
// mirror on the network.
func resolveMirrors(uris []string) []string {
	var out []string
	for _, u := range uris {
		if list, ok := strings.CutPrefix(u, "mirror+file:"); ok {
			data, err := os.ReadFile("/" + strings.TrimLeft(list, "/"))
			if err != nil {
				continue
			}
			for _, line := range strings.Split(string(data), "\n") {
				if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
					out = append(out, f[0])
				}
			}
			continue
		}
		out = append(out, u)
	}
	kept := out[:0]
	for _, u := range out {
		if p, err := url.Parse(u); err == nil && (p.Scheme == "http" || p.Scheme == "https") && p.Host != "" {
			kept = append(kept, strings.TrimSuffix(u, "/"))
		}
	}
	return kept
}
