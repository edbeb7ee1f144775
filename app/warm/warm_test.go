package warm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
)

const image = "0123"

func store(t *testing.T) (s Store, images string) {
	t.Helper()
	data := t.TempDir()
	images = filepath.Join(data, "images")
	if err := os.MkdirAll(filepath.Join(images, image), 0o755); err != nil {
		t.Fatal(err)
	}
	return Open(session.Paths{Data: data}), images
}

func keep(t *testing.T, s Store, name, image string) {
	t.Helper()
	d, err := s.Begin(name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if err := os.WriteFile(filepath.Join(d.Dir(), "ram"), []byte("memory"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := snapshot.Manifest{Session: session.Session{ID: "00000000"}, Backend: "soft", Image: image, Kind: snapshot.Memory}
	if _, err := d.Commit(context.Background(), m, nil); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, s Store, name string) bool {
	t.Helper()
	kept, err := s.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return kept != nil
}

func TestName(t *testing.T) {
	names := map[string]bool{}
	for _, parts := range [][]any{{}, {1}, {"1"}, {1, 2}, {[]int{1, 2}}, {nil}} {
		for _, kind := range []Kind{Template, Prompt} {
			name, err := Name(kind, parts...)
			if err != nil || names[name] || snapshot.CheckName(name) != nil {
				t.Errorf("%v: %s, %v", parts, name, err)
			}
			names[name] = true
		}
	}
	if _, err := Name(Template, func() {}); err == nil {
		t.Error("a function has a name")
	}
}

func TestPrune(t *testing.T) {
	s, images := store(t)
	if has(t, s, "template-a") {
		t.Error("an empty store has something")
	}
	if err := s.Prune(images); err != nil {
		t.Error(err)
	}
	old := time.Now().Add(-time.Hour)
	for i := range most[Template] + 2 {
		name := fmt.Sprintf("template-%d", i)
		keep(t, s, name, image)
		at := old.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(filepath.Join(s.dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	keep(t, s, "prompt-a", image)
	keep(t, s, "template-gone", "image that is not there")
	keep(t, s, "prompt-broken", image)
	if err := os.Remove(filepath.Join(s.dir, "prompt-broken", "ram")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find("prompt-broken"); err == nil {
		t.Error("what is broken was found")
	}
	// Use is what counts, not age.
	if !has(t, s, "template-0") {
		t.Error("template-0 is not there")
	}
	if err := s.Prune(images); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"template-0": true, "template-1": false, "template-2": false, "template-3": true, "template-5": true, "template-gone": false, "prompt-a": true, "prompt-broken": false,
	} {
		if got := has(t, s, name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
