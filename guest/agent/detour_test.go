//go:build linux

package agent

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"capsid/guest/agent/reap"
)

func TestDetour(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a 'folder' $HOME")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c := reap.Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", `pwd; env; echo "<$1>"; exit 7`, "x", "an 'argument' $HOME"},
		Env: []string{"PWD=" + dir}, Dir: dir, Files: []*os.File{write, write, write}, Attr: &syscall.SysProcAttr{},
	}
	detour(&c)
	if c.Dir != "/" {
		t.Errorf("the child goes to %s itself", c.Dir)
	}
	p, err := reap.New(false).Start(c)
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(read)
	<-p.Done()
	want := dir + "\nPWD=" + dir + "\n<an 'argument' $HOME>\n"
	if err != nil || string(got) != want || p.Code() != 7 {
		t.Errorf("got %q, %d, %v; want %q, 7", got, p.Code(), err, want)
	}
	if onShare(dir) {
		t.Error("a folder of this machine's own is taken for a share")
	}
}
