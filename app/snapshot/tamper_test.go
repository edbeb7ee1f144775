package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openAndVerify(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	return s.Verify(context.Background(), nil)
}

func writeAt(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(b, at)
	must(t, err)
	must(t, f.Sync())
}

func punch(t *testing.T, path string, page int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, page*pageSize, pageSize))
}

func TestDamageIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		do   func(t *testing.T, path string)
		kind error
	}{
		"data of memory":           {"ram.base", func(t *testing.T, p string) { writeAt(t, p, 17, []byte{9}) }, ErrDamaged},
		"hole of memory":           {"ram.base", func(t *testing.T, p string) { writeAt(t, p, 2*pageSize, []byte{9}) }, ErrDamaged},
		"data becomes a hole":      {"ram.base", func(t *testing.T, p string) { punch(t, p, 1000) }, ErrDamaged},
		"last byte":                {"ram.base", func(t *testing.T, p string) { writeAt(t, p, ramSize-1, []byte{9}) }, ErrDamaged},
		"zeros of a diff":          {"ram", func(t *testing.T, p string) { punch(t, p, 5) }, ErrDamaged},
		"zeros of a layer":         {"disk.1", func(t *testing.T, p string) { punch(t, p, 7) }, ErrDamaged},
		"zeros hide what is below": {"disk.1", func(t *testing.T, p string) { writeAt(t, p, 0, make([]byte, pageSize)) }, ErrDamaged},
		"data of a layer":          {"disk.0", func(t *testing.T, p string) { writeAt(t, p, 7*pageSize, []byte{1}) }, ErrDamaged},
		"state":                    {"machine.json", func(t *testing.T, p string) { writeAt(t, p, 11, []byte{'2'}) }, ErrDamaged},
		"longer":                   {"ram", func(t *testing.T, p string) { must(t, os.Truncate(p, ramSize+1)) }, ErrDamaged},
		"cut short":                {"disk.0", func(t *testing.T, p string) { must(t, os.Truncate(p, diskSize-1)) }, ErrDamaged},
		"empty":                    {"machine.json", func(t *testing.T, p string) { must(t, os.Truncate(p, 0)) }, ErrDamaged},
		"missing":                  {"disk.1", func(t *testing.T, p string) { must(t, os.Remove(p)) }, ErrDamaged},
		"one too many":             {"planted", func(t *testing.T, p string) { must(t, os.WriteFile(p, nil, 0o600)) }, ErrDamaged},
		"symbolic link": {"machine.json", func(t *testing.T, p string) {
			must(t, os.Rename(p, p+"2"))
			must(t, os.Rename(p+"2", filepath.Join(t.TempDir(), "x")))
			must(t, os.Symlink("/etc/passwd", p))
		}, ErrDamaged},
		"FIFO":             {"machine.json", func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, unix.Mkfifo(p, 0o600)) }, ErrDamaged},
		"manifest missing": {manifestFile, func(t *testing.T, p string) { must(t, os.Remove(p)) }, ErrDamaged},
		"manifest a FIFO":  {manifestFile, func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, unix.Mkfifo(p, 0o600)) }, ErrDamaged},
		"manifest a link":  {manifestFile, func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, os.Symlink("/etc/passwd", p)) }, ErrDamaged},
		"manifest huge":    {manifestFile, func(t *testing.T, p string) { must(t, os.Truncate(p, 1<<40)) }, ErrDamaged},
		"manifest torn":    {manifestFile, func(t *testing.T, p string) { must(t, os.Truncate(p, 700)) }, ErrDamaged},
		"manifest empty":   {manifestFile, func(t *testing.T, p string) { must(t, os.Truncate(p, 0)) }, ErrDamaged},
		"newer": {manifestFile, func(t *testing.T, p string) {
			must(t, os.WriteFile(p, []byte(`{"version":2,"what":["else"]}`), 0o600))
		}, ErrNewer},
		"version 0":     {manifestFile, func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte(`{}`), 0o600)) }, ErrDamaged},
		"nothing in it": {manifestFile, func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte(`{"version":1}`), 0o600)) }, ErrDamaged},
		"two manifests": {manifestFile, func(t *testing.T, p string) {
			d, err := os.ReadFile(p)
			must(t, err)
			must(t, os.WriteFile(p, append(d, d...), 0o600))
		}, ErrDamaged},
		"of another name": {manifestFile, func(t *testing.T, p string) {
			d, err := os.ReadFile(filepath.Join(take(t, snapshotsFolder(t), "other", nil).Dir, manifestFile))
			must(t, err)
			must(t, os.WriteFile(p, d, 0o600))
		}, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			s := take(t, snapshotsFolder(t), "a", nil)
			must(t, openAndVerify(s.Dir))
			c.do(t, s.Path(c.file))
			err := openAndVerify(s.Dir)
			if !errors.Is(err, c.kind) {
				t.Fatalf("%v, want %v", err, c.kind)
			}
			oneLine(t, err, c.file)
			must(t, Remove(s.Dir, nil))
		})
	}
}

// What of damage is none: another file system may keep zeros as a hole.
func TestHolesOfMemoryMayBeZeros(t *testing.T) {
	s := take(t, snapshotsFolder(t), "a", nil)
	punch(t, s.Path("ram.base"), 5)
	writeAt(t, s.Path("ram.base"), 77*pageSize, make([]byte, pageSize))
	must(t, openAndVerify(s.Dir))
}

func TestEachByteOfTheManifestCounts(t *testing.T) {
	s := take(t, snapshotsFolder(t), "a", nil)
	data, err := os.ReadFile(s.Path(manifestFile))
	must(t, err)
	same, err := decode("a", data)
	must(t, err)
	want, err := json.Marshal(same)
	must(t, err)
	for i := range data {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := append([]byte(nil), data...)
			bad[i] ^= bit
			m, err := decode("a", bad)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
					t.Errorf("byte %d: %v", i, err)
				}
				continue
			}
			// White space, and the case of the envelope's names, mean nothing.
			if got, err := json.Marshal(m); err != nil || string(got) != string(want) {
				t.Fatalf("byte %d (%q to %q) changes the manifest to %s", i, data[i], bad[i], got)
			}
		}
		if i%7 == 0 {
			if _, err := decode("a", data[:i]); err == nil {
				t.Fatalf("the first %d bytes are a manifest", i)
			}
		}
	}
}

func TestHostileManifests(t *testing.T) {
	file := func(m map[string]any, name string) map[string]any {
		return m["files"].(map[string]any)[name].(map[string]any)
	}
	for name, c := range map[string]struct {
		change func(m map[string]any)
		kind   error
	}{
		"unknown field":         {func(m map[string]any) { m["next"] = 1 }, ErrNewer},
		"unknown field within":  {func(m map[string]any) { m["session"].(map[string]any)["next"] = 1 }, ErrNewer},
		"unknown field of file": {func(m map[string]any) { file(m, "ram")["next"] = 1 }, ErrNewer},
		"unknown kind":          {func(m map[string]any) { m["kind"] = "x" }, ErrDamaged},
		"path for a file":       {func(m map[string]any) { f := m["files"].(map[string]any); f["../x"] = f["ram"] }, ErrDamaged},
		"itself for a file":     {func(m map[string]any) { f := m["files"].(map[string]any); f[manifestFile] = f["ram"] }, ErrDamaged},
		"no files":              {func(m map[string]any) { m["files"] = nil; m["disks"] = nil }, ErrDamaged},
		"negative size":         {func(m map[string]any) { file(m, "ram")["size"] = -1 }, ErrDamaged},
		"huge size":             {func(m map[string]any) { file(m, "ram")["size"] = int64(1) << 60 }, ErrDamaged},
		"huge and whole":        {func(m map[string]any) { f := file(m, "ram.base"); f["size"] = 1 << 40; delete(f, "sparse") }, ErrDamaged},
		"short digest":          {func(m map[string]any) { file(m, "ram")["sha256"] = "ab" }, ErrDamaged},
		"digest in capitals":    {func(m map[string]any) { f := file(m, "ram"); f["sha256"] = strings.ToUpper(f["sha256"].(string)) }, ErrDamaged},
		"no layer":              {func(m map[string]any) { delete(file(m, "disk.1"), "layer") }, ErrDamaged},
		"diff no layer":         {func(m map[string]any) { delete(file(m, "ram"), "layer") }, ErrDamaged},
		"bottom a layer":        {func(m map[string]any) { file(m, "disk.0")["layer"] = true }, ErrDamaged},
		"order of layers":       {func(m map[string]any) { m["disks"] = [][]string{{"disk.1", "disk.0"}} }, ErrDamaged},
		"layer elsewhere":       {func(m map[string]any) { m["disks"] = [][]string{{"disk.0", "/etc/passwd"}} }, ErrDamaged},
		"empty disk":            {func(m map[string]any) { m["disks"] = [][]string{{}} }, ErrDamaged},
		"many disks":            {func(m map[string]any) { m["disks"] = make([][]string, 17) }, ErrDamaged},
		"escapes in a note":     {func(m map[string]any) { m["note"] = "\x1b[2J" }, ErrDamaged},
		"text turned round":     {func(m map[string]any) { m["note"] = "a\u202eb" }, ErrDamaged},
		"long note":             {func(m map[string]any) { m["note"] = strings.Repeat("a", maxText+1) }, ErrDamaged},
		"session elsewhere":     {func(m map[string]any) { m["session"].(map[string]any)["id"] = "../../.." }, ErrDamaged},
		"parent elsewhere":      {func(m map[string]any) { m["parent"] = Ref{Session: "0123abcd", Snapshot: "../x"} }, ErrDamaged},
		"no time":               {func(m map[string]any) { delete(m, "created") }, ErrDamaged},
		"wrong type":            {func(m map[string]any) { m["files"] = 1 }, ErrDamaged},
		"not a digest":          {func(m map[string]any) { m["image"] = "x\n" }, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			s := take(t, snapshotsFolder(t), "a", nil)
			rewrite(t, s.Dir, func(map[string]any) {})
			must(t, openAndVerify(s.Dir)) // rewriting alone is no reason
			rewrite(t, s.Dir, c.change)
			_, err := Open(s.Dir)
			if !errors.Is(err, c.kind) {
				t.Fatalf("%v, want %v", err, c.kind)
			}
			oneLine(t, err, manifestFile)
		})
	}
}

// FuzzManifest: whatever is read is an error of the two kinds or a manifest that can be written again and is the same then. Bytes are sealed too, so that those within are reached.
func FuzzManifest(f *testing.F) {
	dir := filepath.Join(f.TempDir(), testID, "snapshots")
	s := take(f, dir, "a", nil)
	data, err := os.ReadFile(s.Path(manifestFile))
	must(f, err)
	var e envelope
	must(f, json.Unmarshal(data, &e))
	f.Add(data)
	f.Add([]byte(e.Snapshot))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		inputs := [][]byte{data}
		if json.Valid(data) {
			inputs = append(inputs, seal(t, json.RawMessage(data)))
		}
		for _, in := range inputs {
			m, err := decode("a", in)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
					t.Fatalf("%v", err)
				}
				if strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Fatalf("%q cannot be shown", err)
				}
				continue
			}
			for name := range m.Files {
				if filepath.Base(name) != name || strings.HasPrefix(name, ".") {
					t.Fatalf("file %q", name)
				}
			}
			out, err := encode(m)
			if err != nil {
				t.Fatalf("cannot be written: %v", err)
			}
			again, err := decode("a", out)
			if err != nil {
				t.Fatalf("cannot be read again: %v", err)
			}
			a, _ := json.Marshal(m)
			b, _ := json.Marshal(again)
			if string(a) != string(b) {
				t.Fatalf("%s became %s", a, b)
			}
		}
	})
}
