package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func tarOf(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		data := ""
		if h.Typeflag == tar.TypeReg {
			data = "data of " + h.Name
			h.Size = int64(len(data))
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1000, 0)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func all(name string) string { return name }

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	tr, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.unpack(t.Context(), tarOf(t,
		tar.Header{Name: "./ro/", Typeflag: tar.TypeDir, Mode: 0o555},
		tar.Header{Name: "./ro/sudo", Typeflag: tar.TypeReg, Mode: 0o4111},
		tar.Header{Name: "./ro/setgid", Typeflag: tar.TypeReg, Mode: 0o2755, Gid: 42},
		tar.Header{Name: "./ro/hard", Typeflag: tar.TypeLink, Linkname: "./ro/sudo"},
		tar.Header{Name: "./link", Typeflag: tar.TypeSymlink, Linkname: "/ro/sudo"},
		tar.Header{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666},
		tar.Header{Name: "./tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
	), all); err != nil {
		t.Fatal(err)
	}
	if err := tr.finish(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeTree(filepath.Join(dir, "ro")) })
	for name, want := range map[string]fs.FileMode{
		"ro": fs.ModeDir | 0o555, "ro/sudo": fs.ModeSetuid | 0o511, "ro/hard": fs.ModeSetuid | 0o511, "ro/setgid": 0o755, "link": fs.ModeSymlink | 0o777,
		"tmp": fs.ModeDir | fs.ModeSticky | 0o777,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "dev/null")); err == nil {
		t.Error("a device was made")
	}
	if info, err := os.Stat(filepath.Join(dir, "ro")); err != nil || info.ModTime().Unix() != 1000 {
		t.Errorf("a folder's time is not kept: %v", err)
	}
}

// What an archive names stays inside, whatever it says.
func TestUnpackStaysInside(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"dots":                       {{Name: "../../out", Typeflag: tar.TypeReg, Mode: 0o644}},
		"through an absolute link":   {{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "d/out", Typeflag: tar.TypeReg, Mode: 0o644}},
		"through a relative link":    {{Name: "d", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "d/out", Typeflag: tar.TypeReg, Mode: 0o644}},
		"a hard link to the outside": {{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "x", Typeflag: tar.TypeLink, Linkname: "d/secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			if err := os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range headers {
				headers[i].Linkname = strings.Replace(headers[i].Linkname, "OUTSIDE", outside, 1)
			}
			tr, err := openTree(filepath.Join(outside, "a", "tree"))
			if err != nil {
				t.Fatal(err)
			}
			defer tr.root.Close()
			_ = tr.unpack(t.Context(), tarOf(t, headers...), all) // it may refuse, or keep the file inside
			for _, dir := range []string{outside, filepath.Join(outside, "a")} {
				if _, err := os.Lstat(filepath.Join(dir, "out")); err == nil {
					t.Errorf("written outside, in %s", dir)
				}
			}
			if info, err := os.Lstat(filepath.Join(outside, "a/tree/x")); err == nil && info.Mode().IsRegular() {
				t.Error("linked a file of the outside")
			}
		})
	}
}

func TestUnpackIsCancelled(t *testing.T) {
	tr, err := openTree(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer tr.root.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.unpack(ctx, tarOf(t, tar.Header{Name: "a", Typeflag: tar.TypeReg}), all); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestPlaceBase(t *testing.T) {
	for name, want := range map[string]string{
		"usr/bin/git": "root/usr/bin/git", "usr/share/doc/git/x": "", "usr/share/doc": "root/usr/share/doc", "dev/null": "", "dev": "root/dev",
		"etc/resolv.conf": "", "etc/hostname": "", "etc/apt/apt.conf.d/99mmdebstrap": "", "etc/apt/apt.conf.d/01autoremove": "root/etc/apt/apt.conf.d/01autoremove",
		"etc/apt/sources.list.d/0000x.sources": "", "capsid-kernel": "", "capsid-kernel/boot/vmlinuz-6": "kernel/boot/vmlinuz-6", "capsid-kernel/boot/config-6": "",
		"capsid-kernel/usr/lib/modules/6/modules.dep": "kernel/lib/modules/6/modules.dep", "capsid-kernel/lib": "", "capsid-kernel/lib/modules/6/a.ko": "kernel/lib/modules/6/a.ko",
	} {
		if got := placeBase(name); got != want {
			t.Errorf("placeBase(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestDropUnreached(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.js": `import "./a.js"; const m = await import('./b.mjs')`, "a.js": "import x from \"./c.js\"; new URL(`./w.cjs`, import.meta.url)", "b.mjs": `import "./a.js"`,
		"c.js": "", "w.cjs": "", "other.js": `import "./c.js"`, "data.json": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := dropUnreached(filepath.Join(dir, "main.js")); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if got := strings.Join(left, " "); got != "a.js b.mjs c.js data.json main.js w.cjs" {
		t.Errorf("left: %s", got)
	}
}
