package share

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mapMain maps a file, changes it through the mapping, and then waits until it sees a change of somebody else's there. It is a
// process of its own: a page fault that waits for the share would stop the test's own runtime.
func mapMain(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(memory[4096:], "from the map")
	if err := unix.Msync(memory, unix.MS_SYNC); err != nil {
		return err
	}
	fmt.Println("written")
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := f.Stat(); err != nil {
			return err
		}
		if string(memory[:13]) == "from the host" {
			copy(memory, "at the end")
			return unix.Munmap(memory)
		}
	}
	return errors.New("the host's change was not seen")
}

func TestMap(t *testing.T) {
	t.Run("all along", func(t *testing.T) { testMap(t, func(*mounted) {}) })
	t.Run("with another server", func(t *testing.T) { testMap(t, func(m *mounted) { m.restore(func() {}) }) })
}

func testMap(t *testing.T, between func(*mounted)) {
	m := mount(t)
	name := filepath.Join(m.host, "f")
	must(t, os.WriteFile(name, make([]byte, 8192), 0o644))
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, "share-map", filepath.Join(m.guest, "f"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err, cmd.Wait())
	}
	want := func(offset int64, text string) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		got := make([]byte, len(text))
		_, err = f.ReadAt(got, offset)
		must(t, err)
		if string(got) != text {
			t.Errorf("%q on the host, want %q", got, text)
		}
	}
	want(4096, "from the map")
	between(m)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("from the host"), 0)
	must(t, err)
	must(t, f.Close())
	must(t, cmd.Wait())
	want(0, "at the end")
	want(4096, "from the map")
}
