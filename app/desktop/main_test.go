package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capsid/app/session"
)

func TestWithoutADisplay(t *testing.T) {
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	err := run(nil)
	if err == nil || !strings.Contains(err.Error(), "no display") || !strings.Contains(session.Hint(err), "capsid new claude") {
		t.Errorf("error %v, next step %q", err, session.Hint(err))
	}
}

func TestArguments(t *testing.T) {
	if err := run([]string{"claude"}); err == nil {
		t.Error("an argument that means nothing is taken")
	}
	if err := run([]string{"-no-such-flag"}); err == nil {
		t.Error("a flag that means nothing is taken")
	}
}

func TestProbeNeedsAPrivateFolder(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(open, "p"), filepath.Join(open, "none", "p")} {
		if l, err := listenProbe(path); err == nil {
			l.Close()
			t.Errorf("%s is served", path)
		}
	}
	own := filepath.Join(open, "own")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := listenProbe(filepath.Join(own, "p"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
