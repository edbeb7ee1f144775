package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"capsid/app/session"

	"golang.org/x/sys/unix"
)

func TestCommitted(t *testing.T) {
	folder := snapshotsFolder(t)
	d, err := New(folder, "first")
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d.Dir())
	if list, err := List(folder); err != nil || len(list) != 0 {
		t.Fatalf("a draft is listed: %v, %v", list, err)
	}
	var last, total int64
	s, err := d.Commit(context.Background(), testManifest(), func(done, all int64) {
		if done < last || done > all {
			t.Errorf("progress from %d to %d of %d", last, done, all)
		}
		last, total = done, all
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != total || total == 0 || total > 1<<20 {
		t.Errorf("read %d of %d bytes: holes should cost nothing", last, total)
	}
	if err := d.Abort(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(context.Background(), testManifest(), nil); err == nil {
		t.Error("committed twice")
	}
	got, err := Open(filepath.Join(folder, "first"))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, s) {
		t.Errorf("read back\n%+v, want\n%+v", got, s)
	}
	want := testManifest()
	want.Name, want.Files = got.Manifest.Name, got.Manifest.Files
	if !reflect.DeepEqual(got.Manifest, want) {
		t.Errorf("read back\n%+v, want\n%+v", got.Manifest, want)
	}
	for name, form := range map[string]File{
		"ram.base": {Size: ramSize, Sparse: true}, "ram": {Size: ramSize, Sparse: true, Layer: true},
		"disk.0": {Size: diskSize, Sparse: true}, "disk.1": {Size: diskSize, Sparse: true, Layer: true}, "machine.json": {Size: 13},
	} {
		f := got.Manifest.Files[name]
		f.SHA256 = ""
		if f != form {
			t.Errorf("%s: %+v, want %+v", name, f, form)
		}
	}
	if err := got.Verify(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if got.Ref() != (Ref{Session: testID, Snapshot: "first"}) || got.Disks()[0][1] != filepath.Join(folder, "first", "disk.1") {
		t.Errorf("%v, %v", got.Ref(), got.Disks())
	}
}

func TestDigestsOfPlainFilesAreCommon(t *testing.T) {
	s := take(t, snapshotsFolder(t), "a", nil)
	// printf '{"version":1}' | sha256sum
	if got := s.Manifest.Files["machine.json"].SHA256; got != "2430f1a2ad2982d0067885488a4c89e21ad1d7c83b115ba8f1b20acc88dfaea8" {
		t.Error(got)
	}
}

func TestNames(t *testing.T) {
	folder := snapshotsFolder(t)
	for name, good := range map[string]bool{
		"a": true, "A-b_c.9": true, "_x": true, strings.Repeat("a", 64): true, "v1.2": true,
		"": false, ".": false, "..": false, ".a": false, "-a": false, "a..b": false, "a/b": false, "a b": false, "é": false, "a\n": false, "a\x00": false,
		strings.Repeat("a", 65): false,
	} {
		d, err := New(folder, name)
		if (err == nil) != good || (!good && !errors.Is(err, ErrName)) {
			t.Errorf("New(%q): %v", name, err)
		}
		if err == nil {
			d.Abort()
		}
		if _, err := Open(filepath.Join(folder, "x") + "/../" + name); err == nil {
			t.Errorf("Open(%q) found something", name)
		}
	}
}

func TestNamesAreTakenOnce(t *testing.T) {
	folder := snapshotsFolder(t)
	late, err := New(folder, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer late.Abort()
	fill(t, late.Dir())
	take(t, folder, "a", nil)
	if _, err := New(folder, "a"); !errors.Is(err, ErrExists) || session.Hint(err) == "" {
		t.Errorf("New: %v", err)
	}
	if _, err := late.Commit(context.Background(), testManifest(), nil); !errors.Is(err, ErrExists) {
		t.Errorf("Commit: %v", err)
	}
	if err := os.Mkdir(filepath.Join(folder, "empty"), 0o700); err != nil { // which rename(2) replaces
		t.Fatal(err)
	}
	if _, err := New(folder, "empty"); !errors.Is(err, ErrExists) {
		t.Errorf("New over an empty folder: %v", err)
	}
}

func TestConcurrentDrafts(t *testing.T) {
	folder := snapshotsFolder(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			d, err := New(folder, "same")
			if errors.Is(err, ErrExists) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Abort()
			fill(t, d.Dir())
			_, err = d.Commit(context.Background(), testManifest(), nil)
			if err != nil && !errors.Is(err, ErrExists) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
			if _, err := List(folder); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d drafts of one name were committed", won)
	}
	if left := hidden(t, folder); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func hidden(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && e.Name() != mutexFile {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestCommitRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files  func(t *testing.T, dir string)
		change func(m *Manifest)
	}{
		"symbolic link":    {files: func(t *testing.T, dir string) { must(t, os.Symlink("ram", filepath.Join(dir, "link"))) }},
		"folder":           {files: func(t *testing.T, dir string) { must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700)) }},
		"FIFO":             {files: func(t *testing.T, dir string) { must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600)) }},
		"hidden file":      {files: func(t *testing.T, dir string) { must(t, os.WriteFile(filepath.Join(dir, ".x"), nil, 0o600)) }},
		"missing layer":    {files: func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "disk.1"))) }},
		"layer's size":     {files: func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "disk.1"), 1<<20)) }},
		"no kind":          {change: func(m *Manifest) { m.Kind = "" }},
		"no backend":       {change: func(m *Manifest) { m.Backend = "" }},
		"no session":       {change: func(m *Manifest) { m.Session.ID = "" }},
		"note of lines":    {change: func(m *Manifest) { m.Note = "a\nb" }},
		"parent":           {change: func(m *Manifest) { m.Parent = &Ref{Session: testID} }},
		"layer used twice": {change: func(m *Manifest) { m.Disks = append(m.Disks, []string{"disk.0"}) }},
	} {
		t.Run(name, func(t *testing.T) {
			folder := snapshotsFolder(t)
			d, err := New(folder, "a")
			must(t, err)
			fill(t, d.Dir())
			m := testManifest()
			if c.files != nil {
				c.files(t, d.Dir())
			}
			if c.change != nil {
				c.change(&m)
			}
			if _, err := d.Commit(context.Background(), m, nil); err == nil {
				t.Error("committed")
			}
			must(t, d.Abort())
			if list, err := List(folder); err != nil || len(list) != 0 || len(hidden(t, folder)) != 0 {
				t.Errorf("left: %v, %v, %v", list, err, hidden(t, folder))
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCancelled(t *testing.T) {
	folder := snapshotsFolder(t)
	s := take(t, folder, "a", nil)
	d, err := New(folder, "b")
	must(t, err)
	defer d.Abort()
	fill(t, d.Dir())
	for name, run := range map[string]func(ctx context.Context, progress func(int64, int64)) error{
		"Verify": s.Verify,
		"Commit": func(ctx context.Context, p func(int64, int64)) error {
			_, err := d.Commit(ctx, testManifest(), p)
			return err
		},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		if err := run(ctx, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// It can still be committed: nothing was given up.
	if _, err := d.Commit(context.Background(), testManifest(), nil); err != nil {
		t.Error(err)
	}
}

func TestListShowsWhatIsBroken(t *testing.T) {
	folder := snapshotsFolder(t)
	if list, err := List(folder); list != nil || err != nil {
		t.Fatalf("%v, %v", list, err)
	}
	take(t, folder, "b", func(m *Manifest) { m.Created = testTime.AddDate(0, 0, 1) })
	take(t, folder, "c", nil)
	must(t, os.Truncate(filepath.Join(take(t, folder, "a", nil).Dir, "ram"), 1))
	must(t, os.WriteFile(filepath.Join(folder, "file"), nil, 0o600))
	list, err := List(folder)
	must(t, err)
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"a", "c", "b"}) {
		t.Errorf("%v", names)
	}
	if !errors.Is(list[0].Broken, ErrDamaged) || list[1].Broken != nil || !errors.Is(list[0].Verify(context.Background(), nil), ErrDamaged) {
		t.Errorf("%v, %v", list[0].Broken, list[1].Broken)
	}
	if s, err := Find(folder, "b"); err != nil || s.Name != "b" {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := Find(folder, "a"); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	for _, key := range []string{"", "x"} {
		if _, err := Find(folder, key); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestFoldersAreIndependent(t *testing.T) {
	folder := snapshotsFolder(t)
	a := take(t, folder, "a", nil)
	d, err := New(folder, "b")
	must(t, err)
	defer d.Abort()
	fill(t, d.Dir())
	for _, name := range []string{"disk.0", "ram.base"} {
		must(t, os.Remove(filepath.Join(d.Dir(), name)))
		must(t, LinkFile(context.Background(), filepath.Join(d.Dir(), name), a.Path(name)))
	}
	b, err := d.Commit(context.Background(), testManifest(), nil)
	must(t, err)
	alone := Freed(a.Dir)
	must(t, Remove(a.Dir, nil))
	if err := b.Verify(context.Background(), nil); err != nil {
		t.Error(err)
	}
	// What both had is b's alone now: two pages of disk.0 and four of ram.base.
	if after := Freed(b.Dir); after-alone < 6*pageSize {
		t.Errorf("removing frees %d bytes, was %d", after, alone)
	}
	if err := Remove(a.Dir, nil); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if err := Remove(b.Dir, []Ref{{Session: "00000001"}, {Session: testID, Snapshot: "c"}}); !errors.Is(err, ErrChildren) || !strings.Contains(err.Error(), "session 00000001, "+testID+"/c") {
		t.Error(err)
	}
	if _, err := Open(b.Dir); err != nil {
		t.Error(err)
	}
}

func TestFreed(t *testing.T) {
	dir := t.TempDir()
	empty := Freed(dir)
	path := filepath.Join(dir, "a")
	sparseFile(t, path, 1<<30, map[int64]byte{0: 1, 100: 1, 101: 1})
	if got := Freed(dir) - empty; got != 3*pageSize {
		t.Errorf("%d bytes, want three pages", got)
	}
	must(t, os.Link(path, filepath.Join(dir, "b"))) // twice here, not elsewhere
	if got := Freed(dir) - empty; got != 3*pageSize {
		t.Errorf("%d bytes of a file that is there twice, want three pages", got)
	}
	must(t, os.Link(path, filepath.Join(t.TempDir(), "c")))
	if got := Freed(dir) - empty; got != 0 {
		t.Errorf("%d bytes of a file that is elsewhere too", got)
	}
	if got := Freed(filepath.Join(dir, "none")); got != 0 {
		t.Errorf("%d bytes of nothing", got)
	}
}
