package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestVerifyOnce(t *testing.T) {
	_, img := buildOne(t)
	record := filepath.Join(t.TempDir(), "record")
	read := func() bool {
		t.Helper()
		var all int64
		if err := img.VerifyOnce(t.Context(), record, func(done, _ int64) { all = done }); err != nil {
			t.Fatal(err)
		}
		return all > 0
	}
	if !read() {
		t.Fatal("the first time nothing was read")
	}
	// What changed just now may change again without a trace, and is read again until it has settled.
	for deadline := time.Now().Add(20 * time.Second); read(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is read each time")
		}
	}
	info, err := os.Stat(img.Root())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(img.Root())
	if err != nil {
		t.Fatal(err)
	}
	data[10] ^= 1
	if err := errors.Join(os.WriteFile(img.Root(), data, 0o644), os.Chtimes(img.Root(), info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if err := img.VerifyOnce(t.Context(), record, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a file of the same size and time, with another content: %v", err)
	}
	data[10] ^= 1
	if err := os.WriteFile(img.Root(), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if !read() {
		t.Error("a file that was written again was not read")
	}
	if err := os.WriteFile(record, []byte("anything"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !read() {
		t.Error("a record of something else was taken")
	}
}
