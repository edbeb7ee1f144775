// Package app_test holds the house's own rules: which way the arrows between packages point, and that each package says what it is.
package app_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Doc          string
	GoFiles      []string
	CgoFiles     []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

const module = "capsid/"

// common is the ground that every pillar may stand on.
const common = "capsid/guest/link"

var pillars = []string{"vmm", "guest", "proxy"}

// place returns the part of the house that a package belongs to: app, vmm, guest, proxy, assets; "" for packages that are not ours.
func place(path string) string {
	rest, ok := strings.CutPrefix(path, module)
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// forbidden says why from may not import to, or "".
func forbidden(from, to string) string {
	a, b := place(from), place(to)
	switch {
	case b == "" || a == b:
		if from == common && b != "" {
			return "the common ground imports nothing of ours"
		}
		return ""
	case from == common:
		return "the common ground imports nothing of ours"
	case to == common:
		return ""
	case slices.Contains(pillars, a) && b == "app":
		return "a pillar never imports the roof"
	case slices.Contains(pillars, a) && slices.Contains(pillars, b):
		return "a pillar never imports another pillar"
	case a == "assets" && b == "app":
		return "assets never import the roof"
	}
	return ""
}

func load(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,GoFiles,CgoFiles,Imports,TestImports,XTestImports", "capsid/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var list []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("go list found %d packages only", len(list))
	}
	return list
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, p := range load(t) {
		for _, to := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if why := forbidden(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
}

func TestPackagesHaveDocs(t *testing.T) {
	for _, p := range load(t) {
		if len(p.GoFiles)+len(p.CgoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestPackagesAreNamedForNouns(t *testing.T) {
	for _, p := range load(t) {
		if strings.Contains(p.ImportPath, "/util") || strings.HasSuffix(p.ImportPath, "/common") || strings.HasSuffix(p.ImportPath, "/helpers") {
			t.Errorf("%s: packages are named for their noun", p.ImportPath)
		}
	}
}

func TestForbiddenCanFail(t *testing.T) {
	for _, c := range []struct {
		from, to string
		bad      bool
	}{
		{"capsid/app/ui", "capsid/proxy/policy", false},
		{"capsid/app/ui", "capsid/app/session", false},
		{"capsid/vmm/soft", "capsid/guest/link", false},
		{"capsid/proxy", "capsid/proxy/ca", false},
		{"capsid/guest/agent", "golang.org/x/sys/unix", false},
		{"capsid/vmm/soft", "capsid/guest/control", true},
		{"capsid/proxy/mitm", "capsid/vmm", true},
		{"capsid/guest/share", "capsid/app/session", true},
		{"capsid/guest/link", "capsid/guest/control", true},
		{"capsid/guest/link", "capsid/vmm", true},
		{"capsid/assets", "capsid/app/session", true},
	} {
		if got := forbidden(c.from, c.to) != ""; got != c.bad {
			t.Errorf("forbidden(%s, %s) = %v, want %v", c.from, c.to, got, c.bad)
		}
	}
}
