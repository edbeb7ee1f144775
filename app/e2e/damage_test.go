package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/app/session"
	"capsid/app/snapshot"
)

// damage spoils a snapshot of the running parent in several ways. Each must be refused in one line, by whoever comes to see it first, and leave the session as it was.
func damage(t *testing.T, h *house, id string) {
	h.must("snapshot", "parent", "spoiled")
	folder := snapshot.Folder(h.paths.Folder(id))
	// Opened while it is good: its damage is then for the new supervisor to find.
	whole, err := snapshot.Open(filepath.Join(folder, "spoiled"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(whole.Path("manifest.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	spoil := func(text []byte) func() error {
		return func() error { return os.WriteFile(whole.Path("manifest.json"), text, 0o600) }
	}
	mend := spoil(manifest)
	var memory string
	for name, f := range whole.Manifest.Files {
		if strings.HasPrefix(name, "ram") && (memory == "" || f.Size > whole.Manifest.Files[memory].Size) {
			memory = whole.Path(name)
		}
	}
	cases := []struct {
		name       string
		do, undo   func() error
		want, hint string
	}{
		{"newer", spoil([]byte(`{"version":99}`)), mend, `snapshot "spoiled" was taken by a newer capsid`, "version that took it"},
		{"torn", spoil(manifest[:len(manifest)/2]), mend, `snapshot "spoiled" is damaged: manifest.json`, "remove it"},
		{"altered", spoil(bytes.Replace(manifest, []byte(`"cpus": 2`), []byte(`"cpus": 4`), 1)), mend, `snapshot "spoiled" is damaged: manifest.json`, "remove it"},
		{"memory altered", flip(memory), flip(memory), `snapshot "spoiled" is damaged: ` + filepath.Base(memory), "remove it"},
		{"cut short", swap(memory, h.write("short", "short")), swap(memory, h.dir+"/short"), `snapshot "spoiled" is damaged: ` + filepath.Base(memory), "remove it"},
	}
	options := snapshot.Options{Executable: program(h.t)}
	for _, state := range []string{"running", "ended"} {
		for _, c := range cases {
			t.Run(state+", "+c.name, func(t *testing.T) {
				h := h.in(t)
				if err := c.do(); err != nil {
					t.Fatal(err)
				}
				before := h.everything(id)
				refused := func(how, said, hint string) {
					t.Helper()
					if !strings.Contains(said, c.want) || !strings.Contains(said+hint, c.hint) || strings.Contains(said, "\n") {
						t.Errorf("%s says %q (%s), want %q and %q in one line", how, said, hint, c.want, c.hint)
					}
					if after := h.everything(id); after != before {
						t.Errorf("%s changed the sessions from\n%s to\n%s", how, before, after)
					}
				}
				for _, args := range [][]string{{"restore", "parent", "spoiled", "--force", "--detach"}, {"fork", "parent", "--at", "spoiled", "--detach"}} {
					out, said, status := h.capsid(args...)
					if status == 0 || out != "" {
						t.Errorf("%q works: %s", args, out)
					}
					// Where it is found late, the progress until then comes first.
					lines := strings.Split(strings.TrimSpace(said), "\n")
					refused(strings.Join(args, " "), lines[len(lines)-1], "")
				}
				if state == "running" {
					_, err := snapshot.Fork(t.Context(), h.store, whole, 1, "of-spoiled", options)
					if err == nil {
						t.Fatal("it can be forked")
					}
					refused("Fork", err.Error(), session.Hint(err))
				} else {
					_, err := snapshot.Restore(t.Context(), h.store, id, whole, options)
					if err == nil {
						t.Fatal("it can be restored")
					}
					refused("Restore", err.Error(), session.Hint(err))
				}
				if err := c.undo(); err != nil {
					t.Fatal(err)
				}
			})
		}
		if state == "running" {
			h.must("kill", "parent")
		}
	}
	h.must("restore", "parent", "spoiled", "--detach") // all is mended
	h.must("restore", "parent", "first", "--force", "--detach")
	h.must("rm", "parent/spoiled")
}

// swap has two files change places.
func swap(a, b string) func() error {
	return func() error { return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) }
}

// flip changes a byte of a file's data, or changes it back.
func flip(path string) func() error {
	return func() error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		at, err := f.Seek(0, unix.SEEK_DATA)
		if err != nil {
			return err
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return err
		}
		b[0] ^= 1
		_, err = f.WriteAt(b[:], at)
		return err
	}
}

// everything describes the sessions that there are, and what of this one's folder must outlive a restore that fails.
func (h *house) everything(id string) string {
	h.t.Helper()
	var b strings.Builder
	list, err := h.store.List()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, st := range list {
		fmt.Fprintf(&b, "%s %s %s %d %v\n", st.ID, st.Name, st.State, st.PID, st.Parent)
	}
	folder := h.paths.Folder(id)
	text, err := os.ReadFile(filepath.Join(folder, "session.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	b.Write(text)
	for _, dir := range []string{folder, filepath.Join(folder, "disk"), snapshot.Folder(folder)} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				h.t.Fatal(err)
			}
			if strings.HasPrefix(e.Name(), "disk") && !info.IsDir() {
				fmt.Fprintf(&b, "%s %d\n", e.Name(), inode(info))
			} else {
				fmt.Fprintln(&b, e.Name())
			}
		}
	}
	return b.String()
}
