package sparse

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func create(t *testing.T, name string, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCopy(t *testing.T) {
	const size = 3<<20 + 5000 // ends within a page
	from := create(t, "from", size)
	for at, p := range map[int64][]byte{
		Page:           bytes.Repeat([]byte("a"), Page),
		3 * Page:       make([]byte, 2*Page), // zeros, but no hole
		1<<20 - 10:     bytes.Repeat([]byte("b"), 20),
		size - 100:     bytes.Repeat([]byte("c"), 100),
		2<<20 + 3*Page: bytes.Repeat([]byte("d"), 1),
	} {
		if _, err := from.WriteAt(p, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, zeros := range []bool{false, true} {
		to := create(t, "to", size)
		if err := Copy(t.Context(), to, from, size, zeros); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(from.Name())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(to.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("zeros %v: the copy differs, %v", zeros, err)
		}
		extents, err := Extents(to, size)
		if err != nil {
			t.Fatal(err)
		}
		want2 := []Extent{
			{Page, 2 * Page}, {3 * Page, 5 * Page}, {1<<20 - Page, 1<<20 + Page}, {2<<20 + 3*Page, 2<<20 + 4*Page}, {(size - 100) &^ (Page - 1), size},
		}
		if !zeros {
			want2 = slices.Delete(want2, 1, 2)
		}
		if !slices.Equal(extents, want2) {
			t.Errorf("zeros %v: data at %v, want %v", zeros, extents, want2)
		}
	}
}

func TestAdd(t *testing.T) {
	var list []Extent
	for _, e := range []Extent{{0, 0}, {0, 5}, {5, 7}, {6, 7}, {8, 8}, {9, 12}} {
		list = Add(list, e)
	}
	if want := []Extent{{0, 7}, {9, 12}}; !slices.Equal(list, want) {
		t.Errorf("%v, want %v", list, want)
	}
}
