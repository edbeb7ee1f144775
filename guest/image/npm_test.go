package image

import (
	"crypto/sha512"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeNPM puts an npm on PATH that makes a tarball of the given bytes, and writes how it was called to a file.
func fakeNPM(t *testing.T, content string) (calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho \"$(ls -A | wc -l) $*\" >>" + log + "\nprintf %s '" + content + "' >thing-1.0.0.tgz\n"
	if err := os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		data, err := os.ReadFile(log)
		if err != nil {
			return nil
		}
		return strings.Split(strings.TrimSpace(string(data)), "\n")
	}
}

func thing(content string) Package {
	sum := sha512.Sum512([]byte(content))
	return Package{Name: "thing", NPM: "thing", Version: "1.0.0", Into: "/opt/thing", Integrity: "sha512-" + base64.StdEncoding.EncodeToString(sum[:])}
}

func TestFetchPackage(t *testing.T) {
	calls := fakeNPM(t, "bytes")
	cache := t.TempDir()
	name, err := fetchPackage(t.Context(), thing("bytes"), cache, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := calls(); len(got) != 1 || !strings.HasPrefix(got[0], "0 pack --ignore-scripts ") || !strings.HasSuffix(got[0], " thing@1.0.0") {
		t.Errorf("npm was called as %q, want once, in an empty folder, without scripts", got)
	}
	if _, err := fetchPackage(t.Context(), thing("bytes"), cache, io.Discard); err != nil || len(calls()) != 1 {
		t.Errorf("a whole tarball is fetched again: %v, %d calls", err, len(calls()))
	}
	if err := os.WriteFile(name, []byte("bytez"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetchPackage(t.Context(), thing("bytes"), cache, io.Discard); err != nil || len(calls()) != 2 {
		t.Errorf("a damaged tarball is not replaced: %v, %d calls", err, len(calls()))
	}
	if data, _ := os.ReadFile(name); string(data) != "bytes" {
		t.Errorf("the cache has %q", data)
	}
}

func TestFetchPackageRefuses(t *testing.T) {
	fakeNPM(t, "evil")
	cache := t.TempDir()
	_, err := fetchPackage(t.Context(), thing("bytes"), cache, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "thing@1.0.0") {
		t.Errorf("error %v, want a refusal that names the package", err)
	}
	if left, _ := os.ReadDir(cache); len(left) != 0 {
		t.Errorf("left in the cache: %v", left)
	}
}
