package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func buildOne(t *testing.T) (*builder, *Image) {
	t.Helper()
	b := newBuilder(t, &fakeParts{root: strings.Repeat("root", 1000)})
	img, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b, img
}

func TestVerifyNamesTheFile(t *testing.T) {
	_, img := buildOne(t)
	for name := range img.Manifest.Files {
		file := filepath.Join(img.Dir, name)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		err = img.Verify(t.Context(), nil)
		if !errors.Is(err, ErrCorrupt) || CorruptFile(err) != name || !strings.Contains(err.Error(), name) {
			t.Errorf("%s with a flipped bit: %v", name, err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var last, total int64
	if err := img.Verify(t.Context(), func(done, all int64) { last, total = done, all }); err != nil || last != total || total == 0 {
		t.Errorf("mended: %v, %d of %d bytes", err, last, total)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := img.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(img *Image) error
		file  string
	}{
		{"cut short", func(i *Image) error { return os.Truncate(i.Root(), 10) }, rootFile},
		{"missing", func(i *Image) error { return os.Remove(i.Kernel()) }, kernelFile},
		{"a link", func(i *Image) error { return errors.Join(os.Remove(i.Initrd()), os.Symlink(modulesFile, i.Initrd())) }, initrdFile},
		{"manifest changed", func(i *Image) error { return edit(i, i.Manifest.Files[rootFile].SHA256, strings.Repeat("0", 64)) }, manifestFile},
		{"manifest with an unknown key", func(i *Image) error { return edit(i, `"arch"`, `"arc"`) }, manifestFile},
		{"manifest that points elsewhere", func(i *Image) error { return edit(i, `"root.erofs"`, `"../root.erofs"`) }, manifestFile},
		{"manifest without the root", func(i *Image) error { return edit(i, `"root.erofs"`, `"other"`) }, manifestFile},
		{"no JSON", func(i *Image) error { return os.Truncate(filepath.Join(i.Dir, manifestFile), 10) }, manifestFile},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, img := buildOne(t)
			if err := test.spoil(img); err != nil {
				t.Fatal(err)
			}
			_, err := Open(img.Dir)
			if !errors.Is(err, ErrCorrupt) || CorruptFile(err) != test.file {
				t.Errorf("Open: %v, want ErrCorrupt about %s", err, test.file)
			}
			if _, err := Latest(b.Root); !errors.Is(err, ErrCorrupt) {
				t.Errorf("Latest: %v", err)
			}
			if list, skipped, err := List(b.Root); err != nil || len(list) != 0 || len(skipped) != 1 {
				t.Errorf("List: %v, %v, %v", list, skipped, err)
			}
		})
	}
}

func edit(i *Image, from, to string) error {
	name := filepath.Join(i.Dir, manifestFile)
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, []byte(strings.Replace(string(data), from, to, 1)), 0o644)
}

func TestNone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "images")
	if _, err := Latest(root); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "capsid image build") {
		t.Errorf("Latest: %v", err)
	}
	if _, err := Open(filepath.Join(root, "x")); !errors.Is(err, ErrNone) {
		t.Errorf("Open: %v", err)
	}
	if err := Remove(filepath.Join(root, "x")); !errors.Is(err, ErrNone) {
		t.Errorf("Remove: %v", err)
	}
}

func TestRemove(t *testing.T) {
	b, old := buildOne(t)
	b.Agent = writeAgent(t, "newer")
	newer, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := Remove(old.Dir); err != nil {
		t.Fatal(err)
	}
	if list, skipped, err := List(b.Root); err != nil || len(skipped) != 0 || len(list) != 1 || list[0].Digest != newer.Digest {
		t.Errorf("List: %v, %v, %v", list, skipped, err)
	}
	if err := newer.Verify(t.Context(), nil); err != nil {
		t.Errorf("the image that shared the root: %v", err)
	}
	if got := names(t, b.Root); got != newer.Digest {
		t.Errorf("left: %s", got)
	}
}

func TestDefaultRoot(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	if got, err := DefaultRoot(); err != nil || got != "/data/capsid/images" {
		t.Errorf("%q, %v", got, err)
	}
	t.Setenv("XDG_DATA_HOME", "relative")
	t.Setenv("HOME", "/home/x")
	if got, err := DefaultRoot(); err != nil || got != "/home/x/.local/share/capsid/images" {
		t.Errorf("%q, %v", got, err)
	}
}
