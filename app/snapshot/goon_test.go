package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"capsid/app/session"
	"capsid/vmm/disk"
)

func TestInOneLine(t *testing.T) {
	known := errors.New("a")
	for _, test := range []struct {
		errs []error
		want string
	}{
		{nil, ""},
		{[]error{nil, nil}, ""},
		{[]error{nil, known}, "a"},
		{[]error{known, nil, errors.New("a")}, "a"},
		{[]error{known, errors.New("b")}, "a; b"},
	} {
		err := inOneLine(test.errs)
		if test.want == "" {
			if err != nil {
				t.Errorf("%v: %v", test.errs, err)
			}
			continue
		}
		if err == nil || err.Error() != test.want || !errors.Is(err, known) {
			t.Errorf("%v: %v", test.errs, err)
		}
	}
}

// diskSnapshot is one of a disk that has text in each of its layers' first pages.
func diskSnapshot(t *testing.T, texts ...string) *Snapshot {
	t.Helper()
	folder := snapshotsFolder(t)
	sess := filepath.Dir(folder)
	if err := os.Mkdir(diskFolder(sess), 0o700); err != nil {
		t.Fatal(err)
	}
	var layers []string
	for i, text := range texts {
		path := layer(diskFolder(sess), i)
		if err := disk.Create(path, 1<<20); err != nil {
			t.Fatal(err)
		}
		s, err := disk.OpenPaths([]string{path}, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteAt([]byte(text), int64(i)*4096); err != nil {
			t.Fatal(err)
		}
		s.Close()
		layers = append(layers, path)
	}
	d, err := New(folder, "kept")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	m := testManifest()
	m.Kind = Disk
	names, err := LinkLayers(t.Context(), d.Dir(), "disk", layers...)
	if err != nil {
		t.Fatal(err)
	}
	m.Disks = [][]string{names}
	kept, err := d.Commit(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// reads is what a session's disk has, page by page.
func reads(t *testing.T, sessionFolder string, pages int) (texts []string, layers int) {
	t.Helper()
	paths, err := Layers(sessionFolder)
	if err != nil {
		t.Fatal(err)
	}
	s, err := disk.OpenPaths(paths, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range pages {
		b := make([]byte, 3)
		if _, err := s.ReadAt(b, int64(i)*4096); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts, len(paths)
}

func TestLinkDisk(t *testing.T) {
	kept := diskSnapshot(t, "one", "two")
	folder := t.TempDir()
	if err := LinkDisk(t.Context(), folder, kept); err != nil {
		t.Fatal(err)
	}
	if texts, n := reads(t, folder, 2); n != 3 || texts[0] != "one" || texts[1] != "two" {
		t.Errorf("%q in %d layers", texts, n)
	}
	// A long chain becomes one file.
	many := make([]string, maxChain+1)
	for i := range many {
		many[i] = string(rune('a'+i)) + "--"
	}
	folder = t.TempDir()
	if err := LinkDisk(t.Context(), folder, diskSnapshot(t, many...)); err != nil {
		t.Fatal(err)
	}
	if texts, n := reads(t, folder, len(many)); n != 2 || texts[0] != "a--" || texts[maxChain] != many[maxChain] {
		t.Errorf("%q in %d layers", texts, n)
	}
	// A snapshot without a disk is none that a session can have.
	kept.Manifest.Disks = nil
	if err := LinkDisk(t.Context(), t.TempDir(), kept); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

// A restore that comes to nothing, or is killed on the way, costs a session nothing.
func TestReplaceDisk(t *testing.T) {
	kept := diskSnapshot(t, "new")
	own := func(t *testing.T) string {
		folder := filepath.Dir(filepath.Dir(diskSnapshot(t, "old").Dir))
		if texts, _ := reads(t, folder, 1); texts[0] != "old" {
			t.Fatal(texts)
		}
		return folder
	}
	is := func(t *testing.T, folder, want string) {
		t.Helper()
		if texts, _ := reads(t, folder, 1); texts[0] != want {
			t.Errorf("the disk has %q, not %q", texts[0], want)
		}
		for _, left := range []string{".old", ".next"} {
			if _, err := os.Lstat(diskFolder(folder) + left); err == nil {
				t.Errorf("%s is left", left)
			}
		}
	}
	t.Run("runs", func(t *testing.T) {
		folder := own(t)
		end, err := replaceDisk(t.Context(), folder, kept)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(true); err != nil {
			t.Fatal(err)
		}
		is(t, folder, "new")
	})
	t.Run("does not run", func(t *testing.T) {
		folder := own(t)
		end, err := replaceDisk(t.Context(), folder, kept)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(false); err != nil {
			t.Fatal(err)
		}
		is(t, folder, "old")
	})
	t.Run("is refused", func(t *testing.T) {
		folder := own(t)
		broken := *kept
		broken.Manifest.Disks = [][]string{{"disk.0", "disk.7"}}
		if _, err := replaceDisk(t.Context(), folder, &broken); err == nil {
			t.Error("a layer that is not there was linked")
		}
		is(t, folder, "old")
	})
	t.Run("was killed between the two renames", func(t *testing.T) {
		folder := own(t)
		if err := errors.Join(os.Rename(diskFolder(folder), diskFolder(folder)+".old"), os.Mkdir(diskFolder(folder)+".next", 0o700)); err != nil {
			t.Fatal(err)
		}
		end, err := replaceDisk(t.Context(), folder, kept)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(false); err != nil {
			t.Fatal(err)
		}
		is(t, folder, "old")
	})
}

func TestForkCount(t *testing.T) {
	for _, n := range []int{-1, 0, MaxForks + 1} {
		if _, err := Fork(t.Context(), nil, &Snapshot{}, n, "", Options{}); err == nil || session.Hint(err) == "" {
			t.Errorf("%d forks: %v", n, err)
		}
	}
}
