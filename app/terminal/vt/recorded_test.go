package vt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What Claude Code and Codex sent to a terminal of 123×41 cells, with a message of two lines typed, leaves the screen in the
// file beside it; byte by byte, all at once, and after a window that was made narrow and wide again.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/recorded/*.vt")
	if err != nil || len(files) == 0 {
		t.Fatal("no recordings", err)
	}
	for _, file := range files {
		in, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole, bytes := newRig(123, 41), newRig(123, 41)
		whole.Write(in)
		for i := range in {
			bytes.Write(in[i : i+1])
		}
		golden := strings.TrimSuffix(file, ".vt") + ".txt"
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(golden, []byte(strings.ReplaceAll(whole.screen(), "|", "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*rig{whole, bytes} {
			if got := strings.ReplaceAll(r.screen(), "|", "\n") + "\n"; got != string(want) {
				t.Errorf("%s: the screen is\n%s", file, got)
			}
		}
		text := whole.everything()
		if !whole.Modes().AltScreen {
			whole.Screen.Resize(60, 41)
			whole.Screen.Resize(123, 41)
			if got := whole.everything(); got != text {
				t.Errorf("%s: after resizing there and back\n%s", file, got)
			}
		}
	}
}
