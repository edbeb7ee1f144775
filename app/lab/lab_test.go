//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test program is the lab's program on the host, its init, and what runs in it.
const (
	roleVariable = "LAB_TEST_ROLE"
	roleLab      = "lab"
	roleInside   = "inside"
)

func TestMain(m *testing.M) {
	if inLab() {
		guest()
	}
	if os.Getenv(roleVariable) == roleLab {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// lab is capsid-lab with arguments, as go test -exec calls it.
func lab(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleLab, "TMPDIR="+t.TempDir(), "CAPSID_LAB_TEST=passed", "NAMED=too", "OTHER=not")
	return cmd
}

// needStatic returns this program, which must be one that runs without libraries.
func needStatic(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := checkStatic(self); err != nil {
		t.Fatalf("%v: test with CGO_ENABLED=0", err)
	}
	return self
}

func status(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

// TestInside is what TestGoTest runs in the lab.
func TestInside(t *testing.T) {
	if os.Getenv(roleVariable) != roleInside {
		t.Skip("not in the lab")
	}
	t.Run("skips", func(t *testing.T) { t.Skip("for a reason") })
	t.Run("files", func(t *testing.T) {
		b, err := os.ReadFile("testdata/note.txt")
		if err != nil || string(b) != "a file that tests read\n" {
			t.Errorf("testdata: %q, %v", b, err)
		}
		if _, err := os.Stat("lab_test.go"); err != nil {
			t.Error(err)
		}
	})
	t.Run("waits", func(t *testing.T) {
		fmt.Println("say something")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil || line != "something\n" {
			t.Errorf("read %q, %v", line, err)
		}
	})
	t.Run("fails", func(t *testing.T) { t.Error("as it should") })
	fmt.Fprintln(os.Stderr, "to standard error")
	fmt.Println("to standard output")
	panic("at the end")
}

// What go test sees of a test program in the lab: its lines while it runs, both outputs in their order, and its exit status.
func TestGoTest(t *testing.T) {
	self := needStatic(t)
	cmd := lab(t, "-env", roleVariable+"="+roleInside, self, "-test.run=^TestInside$", "-test.v", "-test.timeout=5m")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var all strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fmt.Fprintln(&all, lines.Text())
		// It comes only if what it answers has come, while the program waits.
		if lines.Text() == "say something" {
			if _, err := io.WriteString(in, "something\n"); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	if status(err) != 2 { // of a panic
		t.Errorf("exit status %v", err)
	}
	rest := all.String()
	for _, want := range []string{
		"=== RUN   TestInside\n", "--- SKIP: TestInside/skips", "--- PASS: TestInside/files", "--- PASS: TestInside/waits", "--- FAIL: TestInside/fails",
	} {
		if !strings.Contains(rest, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, want := range []string{"=== RUN   TestInside/fails", "to standard error\nto standard output\n", "panic: at the end", "lab_test.go:"} {
		before, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Errorf("no %q after %q", want, before[:min(len(before), 100)])
			break
		}
		rest = after
	}
	if t.Failed() {
		t.Log(all.String())
	}
}

// extendedImage is the image's folder with a file beside that is large and ends within a sector.
func extendedImage(t *testing.T) (dir, digest string) {
	t.Helper()
	img, err := openImage("")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), filepath.Base(img.Dir))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(img.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(img.Dir, e.Name()), filepath.Join(dir, e.Name())
		if os.Link(from, to) == nil {
			continue
		}
		if out, err := exec.Command("cp", "--reflink=auto", from, to).CombinedOutput(); err != nil { // another file system
			t.Fatalf("%v: %s", err, out)
		}
	}
	odd := bytes.Repeat([]byte("odd"), (largeFile+5)/3)
	if err := os.WriteFile(filepath.Join(dir, "Odd.file"), odd, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(odd)
	return dir, hex.EncodeToString(sum[:])
}

func TestCommand(t *testing.T) {
	needStatic(t)
	dir, digest := extendedImage(t)
	with := filepath.Join(t.TempDir(), "folder")
	if err := os.MkdirAll(with, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(with, "file"), []byte("taken along"), 0o640); err != nil {
		t.Fatal(err)
	}
	script := `cd "$CAPSID_TEST_IMAGE" && test "$PWD" = "$XDG_DATA_HOME/capsid/images/` + filepath.Base(dir) + `" || exit 90
for f in vmlinuz initrd.img manifest.json root.erofs; do test -f $f && test -s $f || exit 91; done
test "$(sha256sum < Odd.file)" = "` + digest + `  -" || exit 92
mount -t erofs -o ro,loop root.erofs /mnt && cmp /mnt/usr/bin/git /usr/bin/git && umount /mnt || exit 93
test -c /dev/kvm && test "$CAPSID_LAB$CAPSID_LAB_TEST$NAMED$OTHER" = 1passedtoo || exit 94
test "$(cat '` + with + `/file')" = "taken along" && test "$(stat -c %a '` + with + `/file')" = 640 || exit 95
mkdir /tmp/made && touch /usr/bin/made && mkfs.ext4 -V 2>/dev/null && grep -q /lab/host /usr/sbin/mkfs.ext4 || exit 96
python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname())' || exit 97
python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 8192)'
sleep 1000 & # holds the output open
echo done >&2; exit 7`
	cmd := lab(t, "-image", dir, "-env", "NAMED", "-with", with, "--", "bash", "-c", script)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); status(err) != 7 {
		t.Errorf("exit status %v, standard error:\n%s", err, errs.String())
	}
	if errs.String() != "done\n" {
		t.Errorf("standard error %q", errs.String())
	}
	whole := make([]byte, 256)
	for i := range whole {
		whole[i] = byte(i)
	}
	if !bytes.Equal(out.Bytes(), bytes.Repeat(whole, 8192)) {
		t.Errorf("standard output of %d bytes differs: %.100q", out.Len(), out.String())
	}
}

// A panic of the lab's kernel is the lab's failure, and its last words are shown.
func TestPanic(t *testing.T) {
	needStatic(t)
	log := filepath.Join(t.TempDir(), "console")
	out, err := lab(t, "-console", log, "--", "bash", "-c", "echo c > /proc/sysrq-trigger").CombinedOutput()
	first, rest, _ := strings.Cut(string(out), "\n")
	if status(err) != failure || !strings.Contains(first, "kernel panic: sysrq triggered crash") || !strings.Contains(rest, "sysrq_handle_crash") {
		t.Errorf("%v\n%s", err, out)
	}
	if b, err := os.ReadFile(log); err != nil || !bytes.Contains(b, []byte(panicLine)) {
		t.Errorf("console's file: %v, %d bytes", err, len(b))
	}
}

// A program that does not end is ended by -timeout; and one that says nothing is asked where it stands by SIGQUIT.
func TestSignals(t *testing.T) {
	self := needStatic(t)
	out, err := lab(t, "-timeout", "1s", "sleep", "1000").CombinedOutput()
	if status(err) != failure || !strings.Contains(string(out), "the program has not ended within 1s") {
		t.Errorf("%v\n%s", err, out)
	}
	cmd := lab(t, "-env", roleVariable+"="+roleInside, self, "-test.run=^TestInside$", "-test.v")
	var rest bytes.Buffer
	cmd.Stderr = &rest
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // that it waits for
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if lines.Text() == "say something" {
			if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); status(err) != 2 || !strings.Contains(rest.String(), "SIGQUIT: quit") || !strings.Contains(rest.String(), "TestInside") {
		t.Errorf("%v\n%s", err, rest.String())
	}
}

// fakeQEMU is a script in QEMU's place.
func fakeQEMU(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNoLab(t *testing.T) {
	needStatic(t)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no image", []string{"-image", t.TempDir(), "true"}, "no image in "},
		{"no QEMU", []string{"-qemu", "/nonexistent/qemu", "true"}, "apt install qemu-system-x86"},
		{"QEMU cannot", []string{"-qemu", fakeQEMU(t, "echo 'cannot set up memory' >&2; exit 1"), "true"}, "QEMU: cannot set up memory"},
		{"nothing happens", []string{"-qemu", fakeQEMU(t, "echo one line of its console >&4; exec sleep 1000"), "-boot-timeout", "100ms", "true"}, "not started the program within 100ms\nconsole of the lab:\n  one line of its console"},
		{"nothing to run", nil, "no program"},
		{"what is not there", []string{"-with", "/nonexistent/file", "true"}, "/nonexistent/file"},
		{"what is elsewhere", []string{"-with", "/proc/version", "true"}, "a /proc of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := lab(t, c.args...).CombinedOutput()
			if status(err) != failure || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// QEMU ends with capsid-lab, and that with who started it, however that ends.
func TestEndsWithItsParent(t *testing.T) {
	needStatic(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	qemu := fakeQEMU(t, "echo $$ > "+pidFile+".new; mv "+pidFile+".new "+pidFile+"; exec sleep 1000")
	for _, how := range []struct {
		name string
		end  func(parent, lab *os.Process) error
	}{
		{"SIGTERM", func(_, lab *os.Process) error { return lab.Signal(syscall.SIGTERM) }},
		{"killed", func(_, lab *os.Process) error { return lab.Kill() }},
		{"parent killed", func(parent, _ *os.Process) error { return parent.Kill() }},
	} {
		t.Run(how.name, func(t *testing.T) {
			os.Remove(pidFile)
			inner := lab(t, "-qemu", qemu, "true")
			cmd := exec.Command("sh", append([]string{"-c", `"$0" "$@" & echo $!; wait`, inner.Path}, inner.Args[1:]...)...)
			cmd.Env = inner.Env
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			var labPID, qemuPID int
			if _, err := fmt.Fscan(out, &labPID); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool {
				b, err := os.ReadFile(pidFile)
				_, scanErr := fmt.Sscan(string(b), &qemuPID)
				return err == nil && scanErr == nil
			})
			process, err := os.FindProcess(labPID)
			if err != nil {
				t.Fatal(err)
			}
			if err := how.end(cmd.Process, process); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return !running(labPID) && !running(qemuPID) })
		})
	}
}

func await(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) { // no event tells of other people's processes
		if time.Now().After(deadline) {
			t.Fatal("did not happen within a minute")
		}
	}
}

// running says whether a process runs; one that nobody has waited for yet does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !slices.Contains(strings.Fields(string(stat)), "Z")
}
