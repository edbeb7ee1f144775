package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLinkLayers(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	a, b := filepath.Join(src, "one"), filepath.Join(src, "two")
	sparseFile(t, a, 1<<30, map[int64]byte{3: 1})
	sparseFile(t, b, 1<<30, map[int64]byte{4: 0})
	names, err := LinkLayers(context.Background(), dst, "disk0", a, b)
	if err != nil || !slices.Equal(names, []string{"disk0.0", "disk0.1"}) {
		t.Fatalf("%v, %v", names, err)
	}
	for i, src := range []string{a, b} {
		x, err := os.Stat(src)
		must(t, err)
		y, err := os.Stat(filepath.Join(dst, names[i]))
		must(t, err)
		if !os.SameFile(x, y) {
			t.Errorf("%s is another file", names[i])
		}
	}
	link := filepath.Join(src, "link")
	must(t, os.Symlink(a, link))
	for name, bad := range map[string]string{"missing": filepath.Join(src, "none"), "symbolic link": link, "folder": src} {
		if _, err := LinkLayers(context.Background(), dst, "disk1", a, bad); err == nil {
			t.Errorf("%s: linked", name)
		}
	}
	if _, err := LinkLayers(context.Background(), dst, "disk0", a); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	entries, err := os.ReadDir(dst)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("left: %v", entries)
	}
}

func TestCopiesKeepHoles(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	sparseFile(t, from, 1<<30+17, map[int64]byte{3: 1, 4: 0, 700: 2, 1 << 18: 3})
	f, err := os.Open(from)
	must(t, err)
	defer f.Close()
	must(t, copyFile(context.Background(), to, f))
	form := File{Sparse: true, Layer: true}
	if digestOf(t, from, form) != digestOf(t, to, form) {
		t.Error("data and holes of the copy are others")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out := filepath.Join(dir, "cancelled")
	if err := copyFile(ctx, out, f); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Error("half a copy is left")
	}
}
