package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The environment of a child that kills itself before its n-th change of the disk.
const (
	crashFolder = "SNAPSHOT_TEST_FOLDER"
	crashStep   = "SNAPSHOT_TEST_STEP"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(crashFolder); folder != "" {
		at, err := strconv.Atoi(os.Getenv(crashStep))
		if err == nil {
			err = takeThenRemove(folder, at)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// takeThenRemove takes snapshot "new", says so, removes "old", says so; before change number at it is gone.
func takeThenRemove(folder string, at int) error {
	var mu sync.Mutex
	n := 0
	count := func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal may take a moment
		}
		return nil
	}
	d, err := newDraft(folder, "new", count)
	if err != nil {
		return err
	}
	sparseQuick(d.Dir(), count)
	m := testManifest()
	m.Disks = nil
	if _, err := d.Commit(context.Background(), m, nil); err != nil {
		return err
	}
	fmt.Println("taken")
	if err := remove(filepath.Join(folder, "old"), nil, count); err != nil {
		return err
	}
	fmt.Println("removed")
	return nil
}

func sparseQuick(dir string, count step) {
	for _, name := range []string{"ram", "machine.json"} {
		count("write", name)
		os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600)
	}
}

// TestKilledAtEachStep: what was said to be taken is there, what is there is whole, and what is half is swept.
func TestKilledAtEachStep(t *testing.T) {
	for at := 1; ; at++ {
		folder := snapshotsFolder(t)
		take(t, folder, "old", nil)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashFolder+"="+folder, crashStep+"="+strconv.Itoa(at))
		out, err := cmd.Output()
		var said []string
		for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
			said = append(said, lines.Text())
		}
		killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
		if err != nil && !killed {
			t.Fatalf("step %d: %v: %s", at, err, out)
		}
		list, err := List(folder)
		must(t, err)
		names := map[string]bool{}
		for _, s := range list {
			names[s.Name] = true
			if err := s.Verify(context.Background(), nil); err != nil {
				t.Errorf("step %d: %s: %v", at, s.Name, err)
			}
		}
		if slices.Contains(said, "taken") && !names["new"] {
			t.Errorf("step %d: lost what was taken", at)
		}
		if slices.Contains(said, "removed") && names["old"] {
			t.Errorf("step %d: still there though removed", at)
		}
		if !slices.Contains(said, "taken") && !names["old"] {
			t.Errorf("step %d: lost another", at)
		}
		if left := hidden(t, folder); len(left) != 0 {
			t.Errorf("step %d: left %v", at, left)
		}
		// The names can be used again.
		for _, name := range []string{"new", "old"} {
			if !names[name] {
				take(t, folder, name, nil)
			}
		}
		if !killed {
			if at < 12 {
				t.Errorf("only %d steps", at)
			}
			t.Logf("%d steps", at-1)
			return
		}
	}
}

// TestFailureAtEachStep: an error of the system leaves what a kill leaves, and no draft.
func TestFailureAtEachStep(t *testing.T) {
	failed := errors.New("no space")
	for at := 1; ; at++ {
		folder := snapshotsFolder(t)
		var mu sync.Mutex
		n := 0
		count := func(op, path string) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n == at {
				return failed
			}
			return nil
		}
		d, err := newDraft(folder, "new", count)
		if err == nil {
			fill(t, d.Dir())
			_, err = d.Commit(context.Background(), testManifest(), nil)
			must(t, d.Abort())
		}
		list, listErr := List(folder)
		must(t, listErr)
		if left := hidden(t, folder); len(left) != 0 {
			t.Errorf("step %d: left %v", at, left)
		}
		if err == nil {
			if len(list) != 1 {
				t.Errorf("step %d: acknowledged and not there", at)
			}
			if at < 10 {
				t.Errorf("only %d steps", at)
			}
			return
		}
		if !errors.Is(err, failed) || len(list) != 0 {
			t.Errorf("step %d: %v, and %d are there", at, err, len(list))
		}
	}
}

// TestOnDiskBeforeNamed: a power cut keeps what was synced alone, so each file and folder must be before the name, and the name before the answer.
func TestOnDiskBeforeNamed(t *testing.T) {
	folder := snapshotsFolder(t)
	var mu sync.Mutex
	var steps []string
	d, err := newDraft(folder, "a", func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, op+" "+path)
		return nil
	})
	must(t, err)
	fill(t, d.Dir())
	draft := d.Dir()
	s, err := d.Commit(context.Background(), testManifest(), nil)
	must(t, err)
	at := func(step string) int {
		i := slices.Index(steps, step)
		if i < 0 {
			t.Fatalf("no %q in %q", step, steps)
		}
		return i
	}
	rename := at("rename " + s.Dir)
	inFolder := at("sync " + draft)
	for _, name := range []string{"ram", "ram.base", "disk.0", "disk.1", "machine.json", manifestFile} {
		if i := at("sync " + filepath.Join(draft, name)); i > inFolder {
			t.Errorf("%s is synced after the folder", name)
		}
	}
	if at("write "+filepath.Join(draft, manifestFile)) > at("sync "+filepath.Join(draft, manifestFile)) {
		t.Error("the manifest is synced before it is written")
	}
	if inFolder > rename || at("sync "+folder) < rename || at("sync "+filepath.Dir(folder)) < rename {
		t.Errorf("order: %q", steps)
	}
}

func TestLiveDraftsAreNotSwept(t *testing.T) {
	folder := snapshotsFolder(t)
	d, err := New(folder, "a")
	must(t, err)
	fill(t, d.Dir())
	other, err := New(folder, "b")
	must(t, err)
	must(t, other.Abort())
	_, err = List(folder)
	must(t, err)
	must(t, Remove(take(t, folder, "c", nil).Dir, nil))
	if _, err := d.Commit(context.Background(), testManifest(), nil); err != nil {
		t.Errorf("a live draft was swept: %v", err)
	}
	// And dead ones are.
	for _, name := range []string{draftPrefix + "1", oldPrefix + "x"} {
		must(t, os.MkdirAll(filepath.Join(folder, name), 0o700))
		must(t, os.WriteFile(filepath.Join(folder, name, "ram"), nil, 0o600))
	}
	_, err = List(folder)
	must(t, err)
	if left := hidden(t, folder); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
