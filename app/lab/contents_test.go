//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// unpacked reads an archive: a file's bytes, a link's target, and "" for a folder, by name.
func unpacked(t *testing.T, b *bytes.Buffer) map[string]string {
	t.Helper()
	got := map[string]string{}
	for r := cpio.NewReader(b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := got["/"+h.Name]; twice {
			t.Errorf("%s comes twice", h.Name)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got["/"+h.Name] = string(body)
		if h.Linkname != "" {
			got["/"+h.Name] = h.Linkname
		}
		if _, ok := got[filepath.Dir("/"+h.Name)]; !ok && filepath.Dir("/"+h.Name) != "/" {
			t.Errorf("%s comes before its folder", h.Name)
		}
	}
}

func TestInsidePaths(t *testing.T) {
	for path, want := range map[string]string{
		"/home/a/b":   "/lab/files/home/a/b",
		"/bin/true":   "/lab/files/usr/bin/true",
		"/lib64/ld":   "/lab/files/usr/lib64/ld",
		"/library":    "/lab/files/library",
		"/run/user/1": "",
		"/dev":        "",
	} {
		if got, err := inside(path); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

func TestTakeProgram(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	a := newArchive(&b)
	for range 2 { // what two programs share comes once
		if err := take(a, bash); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	got := unpacked(t, &b)
	at, _ := inside(bash)
	if script := got[at]; !strings.HasPrefix(script, "#!/bin/sh\n") || !strings.Contains(script, librariesDir) {
		t.Errorf("in its place is %q", script)
	}
	whole, err := os.ReadFile(bash)
	if err != nil {
		t.Fatal(err)
	}
	if got[filesDir+hostDir+"/programs"+bash] != string(whole) {
		t.Error("the program itself is not there")
	}
	if !strings.HasPrefix(got[filesDir+librariesDir+"/libc.so.6"], "\x7fELF") || got[filesDir+hostDir+"/share"] != "/usr/share" {
		t.Error("its library is not there, or the way to its data")
	}
}

func TestPackageFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a_test.go", "data.bin", "testdata/deep/file", "other/file", ".git/config"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("deep/file", filepath.Join(dir, "testdata/link")); err != nil {
		t.Fatal(err)
	}
	list := func(dir string) map[string]string {
		var b bytes.Buffer
		a := newArchive(&b)
		if err := errors.Join(packageFiles(a, dir), a.close()); err != nil {
			t.Fatal(err)
		}
		return unpacked(t, &b)
	}
	got := list(dir)
	for name, want := range map[string]string{"a_test.go": "a_test.go", "data.bin": "data.bin", "testdata/deep/file": "testdata/deep/file", "testdata/link": "deep/file"} {
		if got[filesDir+filepath.Join(dir, name)] != want {
			t.Errorf("%s is %q", name, got[filesDir+filepath.Join(dir, name)])
		}
	}
	for _, name := range []string{"other", ".git"} {
		if _, ok := got[filesDir+filepath.Join(dir, name)]; ok {
			t.Errorf("%s was taken along", name)
		}
	}
	if got := list(filepath.Join(dir, "other")); len(got) > 0 {
		t.Errorf("a folder that is no package: %v", got)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("CAPSID_BIN", "/some/bin")
	t.Setenv("CAPSID_X", "x")
	t.Setenv("NAMED", "named")
	t.Setenv("OTHER", "other")
	env, err := environment(options{env: list{"NAMED", "SET=set", "CAPSID_X=mine", "ABSENT"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"CAPSID_BIN": "/some/bin", "CAPSID_X": "mine", "NAMED": "named", "SET": "set", "HOME": "/root", "XDG_DATA_HOME": dataHome} {
		if got, _ := variable(env, name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "OTHER=") || strings.HasPrefix(v, "ABSENT") }) {
		t.Errorf("too much: %q", env)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-with", "a", "-with", "b", "prog", "-v", "--", "x"})
	if err != nil || o.verbose || !slices.Equal(o.with, []string{"a", "b"}) || !slices.Equal(o.command, []string{"prog", "-v", "--", "x"}) {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse([]string{"-shell"}); err != nil || o.command[0] != "/bin/bash" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestTail(t *testing.T) {
	var all bytes.Buffer
	c := tail{also: []io.Writer{&all}}
	for range 10_000 {
		if _, err := io.WriteString(&c, "one \x1b[2mof many\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(&c, "last\r\nand cut")
	if got := c.lines(); !slices.Equal(got[len(got)-3:], []string{"one [2mof many", "last", "and cut"}) {
		t.Errorf("%q", got)
	}
	if len(c.b) > 2*tailSize || all.Len() != 10_000*19+13 {
		t.Errorf("keeps %d, handed on %d", len(c.b), all.Len())
	}
}
