package image

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Cancelling ends the tool and its children, also those that it does not wait for.
func TestRunKillsTheGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	cmd := exec.Command("sh", "-c", "sleep 600 & echo $!; wait")
	cmd.Stdout = w
	done := make(chan error, 1)
	go func() { done <- run(ctx, cmd, io.Discard) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	// The grandchild is init's to reap; gone or a zombie, it no longer sleeps.
	for deadline := time.Now().Add(time.Minute); ; {
		if err := syscall.Kill(pid, 0); err != nil || zombie(pid) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a child of the tool lives on")
		}
		time.Sleep(10 * time.Millisecond) // another's process: nothing tells us of its end
	}
}

func zombie(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(string(out), "Z")
}

func TestRunSaysWhatTheToolSaid(t *testing.T) {
	err := run(t.Context(), exec.Command("sh", "-c", "echo first; echo second >&2; echo third >&2; echo fourth >&2; exit 3"), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "second / third / fourth") {
		t.Errorf("error %v", err)
	}
}

func TestPackageCounter(t *testing.T) {
	var last Step
	p := packageCounter{report: func(s Step) { last = s }}
	w := &lineWriter{line: p.line}
	for _, s := range []string{"0 upgraded, 300 newly inst", "alled, 0 to remove\nGet:1 http://x y\n", "noise\rSetting up git:amd64 (1) ...\r"} {
		if _, err := w.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if last.Done != 2 || last.Total != 600 || last.Detail != "git:amd64" {
		t.Errorf("%+v", last)
	}
}
