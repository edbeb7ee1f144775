package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const bookwormSources = `Types: deb
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`

func TestParseList(t *testing.T) {
	got := parseList([]byte(`# deb http://off.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # yes
deb-src http://mirror.example/debian bookworm main
deb [ arch=amd64 signed-by=/k.gpg ] https://other.example/debian stable main
deb	[trusted=yes] file:/srv/repo ./
debris
deb http://short.example
deb [ broken http://x.example/debian a b
`))
	want := []aptSource{
		{uris: []string{"http://mirror.example/debian"}, suites: []string{"bookworm"}, components: []string{"main", "contrib"}},
		{uris: []string{"https://other.example/debian"}, suites: []string{"stable"}, components: []string{"main"}, signedBy: "/k.gpg"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(aptSource{})); d != "" {
		t.Error(d)
	}
}

func TestParseDeb822(t *testing.T) {
	got := parseDeb822([]byte(bookwormSources + `
Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm

types: deb deb-src
uris: http://a.example/debian
 http://b.example/debian
suites: sid
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
`))
	if len(got) != 3 {
		t.Fatalf("%d sources, want 3: %+v", len(got), got)
	}
	if d := cmp.Diff([]string{"bookworm", "bookworm-updates"}, got[0].suites); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"http://a.example/debian", "http://b.example/debian"}, got[2].uris); d != "" {
		t.Error(d)
	}
	if want := "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----"; got[2].signedBy != want {
		t.Errorf("signedBy = %q, want %q", got[2].signedBy, want)
	}
}

func FuzzSources(f *testing.F) {
	f.Add([]byte(bookwormSources))
	f.Add([]byte("deb [a=b] http://x.example y z\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range append(parseList(data), parseDeb822(data)...) {
			if len(s.uris) == 0 || len(s.suites) == 0 {
				t.Fatalf("a source without mirror or suite: %+v", s)
			}
		}
	})
}

func TestReadDistribution(t *testing.T) {
	const debian, ubuntu = "ID=debian\nVERSION_CODENAME=bookworm\n", "ID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\n"
	mirrors := filepath.Join(t.TempDir(), "mirrors")
	if err := os.WriteFile(mirrors, []byte("# list\nhttps://cdn.example/debian\tpriority:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, release string
		files         map[string]string
		want          []string // lines; or one that begins with "error:" and has what it must say
	}{
		{"bookworm makes trixie", debian, map[string]string{"sources.list.d/debian.sources": bookwormSources}, []string{
			"deb http://mirror.example/debian trixie main", "deb http://mirror.example/debian trixie-updates main",
			"deb http://mirror.example/debian-security trixie-security main",
		}},
		{"third parties are passed over", debian, map[string]string{
			"sources.list":                 "deb cdrom:[Debian]/ bookworm main\ndeb http://mirror.example/debian bookworm main\n",
			"sources.list.d/a-tools.list":  "deb [signed-by=/k] https://apt.tools.example bookworm main\n",
			"sources.list.d/docker.list":   "deb https://download.engine.example/linux/debian bookworm stable\n",
			"sources.list.d/z.list.save":   "deb http://saved.example/debian bookworm main\n",
			"sources.list.d/updates.list":  "deb http://updates.example/debian bookworm-updates main\n",
			"sources.list.d/node.sources":  "Types: deb\nURIs: https://node.example/node\nSuites: nodistro\nComponents: main\n",
			"sources.list.d/other.sources": "Types: deb\nURIs: ftp://ftp.example/debian\nSuites: bookworm\nComponents: main\n",
		}, []string{"deb http://mirror.example/debian trixie main", "deb http://mirror.example/debian trixie-updates main"}},
		{"a list of mirrors", debian, map[string]string{
			"sources.list.d/debian.sources": "Types: deb\nURIs: mirror+file://" + mirrors + "\nSuites: trixie\nComponents: main\n",
		}, []string{"deb https://cdn.example/debian trixie main", "deb https://cdn.example/debian trixie-updates main"}},
		{"ubuntu keeps its release", ubuntu, map[string]string{
			"sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://archive.example/ubuntu/\nSuites: noble noble-updates\nComponents: main universe\n\n" +
				"Types: deb\nURIs: http://security.example/ubuntu/\nSuites: noble-security\nComponents: main universe\n",
		}, []string{
			"deb http://archive.example/ubuntu noble main universe", "deb http://archive.example/ubuntu noble-updates main universe",
			"deb http://security.example/ubuntu noble-security main universe",
		}},
		{"no mirror", debian, map[string]string{"sources.list": "deb cdrom:[Debian]/ bookworm main\n"}, []string{"error:sources.list"}},
		{"another family", "ID=fedora\n", map[string]string{}, []string{"error:fedora"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			test.files["../os-release"] = test.release
			for name, text := range test.files {
				file := filepath.Join(root, "etc/apt", name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d, err := readDistribution(root, "amd64")
			if says, ok := strings.CutPrefix(test.want[0], "error:"); ok {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Fatalf("error %v, want one with %q", err, says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.lines(func(string) (string, error) { return "", nil })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
