package soft

import (
	"os"
	"path/filepath"
	"testing"
)

// Whatever the mode of the file, QEMU can open it again, and nothing is left of what that takes.
func TestOpenBootFile(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o600} {
		path, dir := filepath.Join(t.TempDir(), "kernel"), t.TempDir()
		if err := os.WriteFile(path, []byte("\x7fELF kernel"), mode); err != nil {
			t.Fatal(err)
		}
		f, err := openBootFile(path, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || os.Geteuid() == 0 && info.Mode()&0o004 == 0 {
			t.Errorf("%v: QEMU gets %v, %v", mode, info.Mode(), err)
		}
		if b, err := os.ReadFile(procFile(int(f.Fd()))); err != nil || string(b) != "\x7fELF kernel" {
			t.Errorf("%v: %q, %v", mode, b, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%v: %v is left, %v", mode, left, err)
		}
	}
	if _, err := openBootFile(filepath.Join(t.TempDir(), "none"), t.TempDir()); !os.IsNotExist(err) {
		t.Errorf("missing: %v", err)
	}
}
