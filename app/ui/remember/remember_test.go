package remember

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestSaveAndOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "desktop.json")
	f := Open(path)
	f.Use("/a")
	f.Use("/b")
	f.Use("/a")
	f.Change(func(s *State) { s.Width, s.Height, s.Sidebar, s.Egress = 1200, 800, 0.2, 0.6 })
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	got := Open(path).State()
	if fmt.Sprint(got.Recent) != "[/a /b]" || got.Width != 1200 || got.Egress != 0.6 {
		t.Errorf("%+v", got)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	if again, err := os.Stat(path); err != nil || !os.SameFile(info, again) {
		t.Error("an unchanged state was written again")
	}
}

func TestDamagedFilesGiveDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "desktop.json")
	for _, text := range []string{"", "{", "[]", `{"width": 1e9, "height": -4, "sidebar": 7, "egress": 0.001, "fontSize": 900}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := Open(path).State(); s.Width != 0 || s.Height != 0 || s.Sidebar != 0 || s.Egress != 0 || s.FontSize != 0 {
			t.Errorf("%q gives %+v", text, s)
		}
	}
}

func TestFoldersThatAreGoneAreNotOffered(t *testing.T) {
	dir := t.TempDir()
	f := Open("")
	f.Use(filepath.Join(dir, "gone"))
	f.Use(dir)
	for i := range 20 {
		f.Use(fmt.Sprintf("/nowhere/%d", i))
	}
	f.Use(dir)
	if got := f.Folders(); len(got) != 1 || got[0] != dir {
		t.Errorf("folders %v", got)
	}
	if n := len(f.State().Recent); n != MaxRecent {
		t.Errorf("%d are remembered", n)
	}
	if err := f.Save(); err != nil {
		t.Error(err)
	}
}
