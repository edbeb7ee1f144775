package main

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
)

// liar is a file server that says whatever it likes.
type liar struct {
	names map[string][]fs.FileInfo // by folder
	links map[string]string
}

type claimed struct {
	name string
	mode fs.FileMode
}

func (c claimed) Name() string       { return c.name }
func (c claimed) Size() int64        { return 5 }
func (c claimed) Mode() fs.FileMode  { return c.mode }
func (c claimed) ModTime() time.Time { return time.Unix(0, 0) }
func (c claimed) IsDir() bool        { return c.mode.IsDir() }
func (c claimed) Sys() any           { return nil }

type listing []fs.FileInfo

func (l listing) ListAt(out []fs.FileInfo, from int64) (int, error) {
	if from >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(out, l[from:])
	if from+int64(n) == int64(len(l)) {
		return n, io.EOF
	}
	return n, nil
}

func (s *liar) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch r.Method {
	case "List":
		return listing(s.names[r.Filepath]), nil
	case "Readlink":
		return listing{claimed{name: s.links[r.Filepath]}}, nil
	}
	dir, name := filepath.Split(r.Filepath)
	for _, fi := range s.names[filepath.Clean(dir)] {
		if fi.Name() == name {
			return listing{fi}, nil
		}
	}
	return listing{claimed{name, fs.ModeDir | 0o755}}, nil
}

func (s *liar) Fileread(*sftp.Request) (io.ReaderAt, error)  { return strings.NewReader("evil\n"), nil }
func (s *liar) Filewrite(*sftp.Request) (io.WriterAt, error) { return nil, errors.New("no") }
func (s *liar) Filecmd(*sftp.Request) error                  { return errors.New("no") }

func dialLiar(t *testing.T, s *liar) *sftp.Client {
	t.Helper()
	here, there := net.Pipe()
	server := sftp.NewRequestServer(there, sftp.Handlers{FileGet: s, FilePut: s, FileCmd: s, FileList: s})
	go server.Serve()
	c, err := sftp.NewClientPipe(here, here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); server.Close() })
	return c
}

// copyFrom copies /src of a liar to "dst" in a new folder, beside which stands a file that must not change.
func copyFrom(t *testing.T, s *liar) (dst string, skipped []string, err error) {
	t.Helper()
	dir := t.TempDir()
	inside := filepath.Join(dir, "in")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "precious"), []byte("good\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A link out of the destination that was there before.
	if err := os.Mkdir(filepath.Join(inside, "dst"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(inside, "dst", "trap")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	quiet := &copyMeter{term: &term{err: io.Discard}}
	c := &copyOut{ctx: t.Context(), files: dialLiar(t, s), root: root, progress: quiet}
	err = c.copy("/src", "dst", claimed{"src", fs.ModeDir | 0o755}, 0)
	if data, rerr := os.ReadFile(filepath.Join(dir, "precious")); rerr != nil || string(data) != "good\n" {
		t.Fatalf("the file beside the destination: %q, %v", data, rerr)
	}
	entries, rerr := os.ReadDir(dir)
	if rerr != nil || len(entries) != 2 {
		t.Fatalf("beside the destination: %v, %v", entries, rerr)
	}
	return filepath.Join(inside, "dst"), c.skipped, err
}

func TestHostileNames(t *testing.T) {
	for _, name := range []string{"..", ".", "../precious", "/etc/passwd", "a/../../precious", "a/b", "x\x00y"} {
		s := &liar{names: map[string][]fs.FileInfo{"/src": {claimed{name, 0o644}}}}
		if _, _, err := copyFrom(t, s); err == nil && name != "." && name != ".." {
			// The client of the protocol takes some of them out by itself; what is left must be refused or harmless.
			t.Logf("%q: nothing was said", name)
		}
	}
}

func TestTrapsInTheDestination(t *testing.T) {
	// The machine sends a folder of the trap's name with a file that would land outside.
	s := &liar{names: map[string][]fs.FileInfo{
		"/src":      {claimed{"trap", fs.ModeDir | 0o755}},
		"/src/trap": {claimed{"precious", 0o644}},
	}}
	if _, _, err := copyFrom(t, s); err == nil {
		t.Fatal("a link in the destination was followed")
	}
	// A link that the machine sends, then a file through it.
	s = &liar{
		names: map[string][]fs.FileInfo{"/src": {claimed{"out", fs.ModeSymlink | 0o777}, claimed{"ok", fs.ModeSymlink | 0o777}, claimed{"pipe", fs.ModeNamedPipe}}},
		links: map[string]string{"/src/out": "../../precious", "/src/ok": "sub/file"},
	}
	dst, skipped, err := copyFrom(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(skipped) != 2 || !strings.Contains(skipped[0], "/src/out") || !strings.Contains(skipped[1], "/src/pipe") {
		t.Errorf("left out: %q", skipped)
	}
	if target, err := os.Readlink(filepath.Join(dst, "ok")); err != nil || target != "sub/file" {
		t.Errorf("%q, %v", target, err)
	}
}

func TestNoSetuidComesOut(t *testing.T) {
	s := &liar{names: map[string][]fs.FileInfo{"/src": {claimed{"su", fs.ModeSetuid | 0o755}}}}
	dst, _, err := copyFrom(t, s)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dst, "su"))
	if err != nil || fi.Mode() != 0o755 {
		t.Fatalf("%v, %v", fi.Mode(), err)
	}
}

func TestEndlessFolders(t *testing.T) {
	s := &liar{names: map[string][]fs.FileInfo{}}
	for path, i := "/src", 0; i < maxDepth+10; i++ {
		s.names[path] = []fs.FileInfo{claimed{"d", fs.ModeDir | 0o755}}
		path += "/d"
	}
	if _, _, err := copyFrom(t, s); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Fatal(err)
	}
}
