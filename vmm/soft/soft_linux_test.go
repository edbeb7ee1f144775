package soft

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"capsid/vmm"
	"capsid/vmm/vmmtest"
)

// ownerVariable makes the test binary a process that starts a QEMU and is to be killed.
const ownerVariable = "CAPSID_TEST_OWNER"

func TestMain(m *testing.M) {
	if path := os.Getenv(ownerVariable); path != "" {
		own(path)
	}
	vmmtest.Main(m)
}

func TestBackend(t *testing.T) { vmmtest.Run(t, Backend{}, vmmtest.Options{}) }

func TestSnapshots(t *testing.T) { vmmtest.Snapshots(t, Backend{}, vmmtest.Options{}) }

func BenchmarkBackend(b *testing.B) { vmmtest.Bench(b, Backend{}, vmmtest.Options{}) }

func own(dir string) {
	m, err := Backend{}.Start(context.Background(), emptyConfig(dir))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(m.Info().PID)
	select {}
}

// A machine whose owner was killed outright is gone too.
func TestDiesWithItsOwner(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(self)
	owner.Env = append(os.Environ(), ownerVariable+"="+emptyFiles(t))
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	owner.Process.Kill()
	owner.Wait()
	if err != nil {
		t.Fatalf("no machine: %s", line)
	}
	for deadline := time.Now().Add(time.Minute); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("QEMU %d outlives its owner", pid)
		}
	}
}

// running says whether a process runs; one that nobody has waited for yet does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestProbe(t *testing.T) {
	if p := (Backend{}).Probe(t.Context()); !p.Usable || !strings.HasPrefix(p.Detail, "QEMU ") {
		t.Errorf("%+v", p)
	}
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, path := range []string{"/nonexistent/qemu", script("exit 1"), script("echo hello")} {
		p := Backend{QEMU: path}.Probe(t.Context())
		if p.Usable || p.Reason == "" || !strings.HasPrefix(p.Fix, "apt install qemu-system-") {
			t.Errorf("%s: %+v", path, p)
		}
		_, err := Backend{QEMU: path}.Start(t.Context(), emptyConfig(emptyFiles(t)))
		if !errors.Is(err, vmm.ErrStart) || !strings.Contains(err.Error(), p.Fix) {
			t.Errorf("%s: start: %v", path, err)
		}
	}
}

// What QEMU says when it cannot start reaches the person.
func TestStartFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qemu")
	text := "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 9.1.0' && exit\necho >&2\necho 'qemu: cannot set up guest memory' >&2\nexit 1\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil { // QEMU is nobody
		t.Fatal(err)
	}
	dir := emptyFiles(t)
	_, err := Backend{QEMU: path}.Start(t.Context(), emptyConfig(dir))
	if !errors.Is(err, vmm.ErrStart) || !strings.Contains(err.Error(), "cannot set up guest memory") {
		t.Errorf("err: %v", err)
	}
}

// emptyFiles is a folder with a kernel that QEMU takes and that does nothing.
func emptyFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	// Two setup sectors of a bzImage (Documentation/arch/x86/boot.rst) and zeros.
	kernel := make([]byte, 8192)
	kernel[0x1f1] = 2
	copy(kernel[0x202:], "HdrS\x0c\x02")                   // and the version of the protocol
	binary.LittleEndian.PutUint32(kernel[0x22c:], 1<<31-1) // initrd_addr_max
	for _, name := range []string{"kernel", "initrd"} {
		if err := os.WriteFile(filepath.Join(dir, name), kernel, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func emptyConfig(dir string) vmm.Config {
	return vmm.Config{Name: "empty", Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd"), Memory: 128 << 20, Dir: dir}
}
