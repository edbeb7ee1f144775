package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeParts makes a tiny root. before, when set, is called in the middle of it.
type fakeParts struct {
	input  string
	root   string
	made   int
	before func(ctx context.Context, dir string) error
}

func (f *fakeParts) plan() (*plan, error) {
	return &plan{digest: digestOf(f.input), arch: "amd64", distribution: &distribution{Name: "debian", Codename: "trixie"},
		packages: []Package{{Name: "claude", Version: "1.2.3-linux-x64"}}}, nil
}

func (f *fakeParts) makeRoot(ctx context.Context, _ *plan, dir string, _ BuildOptions) (string, error) {
	f.made++
	if err := os.WriteFile(filepath.Join(dir, packedFile), bzImage(packZstd, elfKernel()), 0o644); err != nil {
		return "", err
	}
	if f.before != nil {
		if err := f.before(ctx, dir); err != nil {
			return "", err
		}
	}
	return "6.12.1", errors.Join(os.WriteFile(filepath.Join(dir, modulesFile), make([]byte, 512), 0o644), os.WriteFile(filepath.Join(dir, rootFile), []byte(f.root), 0o644))
}

// newBuilder is a builder in a folder of the test's own; this test program stands for the agent.
func newBuilder(t *testing.T, parts *fakeParts) *builder {
	t.Helper()
	dir := t.TempDir()
	opts, err := BuildOptions{Root: filepath.Join(dir, "images"), Cache: filepath.Join(dir, "cache"), Agent: writeAgent(t, "")}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &builder{BuildOptions: opts, parts: parts}
}

// writeAgent makes the smallest ELF header that names no loader, and something that makes it differ.
func writeAgent(t *testing.T, more string) string {
	t.Helper()
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	header[16], header[18], header[20], header[52] = 2, 62, 1, 64 // executable, x86-64, version 1, size of this header
	name := filepath.Join(t.TempDir(), "capsid-agent")
	if err := os.WriteFile(name, append(header, more...), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			out = append(out, e.Name())
		}
	}
	return strings.Join(out, " ")
}

func TestBuild(t *testing.T) {
	parts := &fakeParts{root: "root"}
	b := newBuilder(t, parts)
	first, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if m := first.Manifest; m.Kernel != "6.12.1" || m.Release != "debian trixie" || m.Versions["claude"] != "1.2.3" || m.Arch != "amd64" {
		t.Errorf("manifest: %+v", m)
	}
	if got := names(t, first.Dir); got != "initrd.img manifest.json modules.cpio root.erofs vmlinux vmlinuz" {
		t.Errorf("files: %s", got)
	}
	if again, err := b.build(t.Context()); err != nil || again.Digest != first.Digest || parts.made != 1 {
		t.Errorf("the same inputs are built again: %v, %d times", err, parts.made)
	}

	b.Agent = writeAgent(t, "another")
	second, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if second.Digest == first.Digest || parts.made != 1 {
		t.Errorf("another agent: digest %s, root made %d times", second.Digest[:12], parts.made)
	}
	if inode(t, second.Root()) != inode(t, first.Root()) {
		t.Error("the root is not shared")
	}
	if total, shared := second.Size(); shared == 0 || shared >= total {
		t.Errorf("Size() = %d, %d", total, shared)
	}
	if got, err := Latest(b.Root); err != nil || got.Digest != second.Digest {
		t.Errorf("Latest: %v", err)
	}

	b.Refresh = true
	if again, err := b.build(t.Context()); err != nil || again.Digest != second.Digest || parts.made != 2 {
		t.Errorf("refresh: %v, root made %d times", err, parts.made)
	}
}

func inode(t *testing.T, name string) uint64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// A damaged image is neither returned nor built upon, and one of the same digest takes its place.
func TestBuildMendsDamage(t *testing.T) {
	parts := &fakeParts{root: "root"}
	b := newBuilder(t, parts)
	img, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(img.Root(), []byte("rOOt"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != img.Digest || parts.made != 2 {
		t.Errorf("digest %s, root made %d times", again.Digest[:12], parts.made)
	}
	if err := again.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if got := names(t, b.Root); got != img.Digest {
		t.Errorf("images: %s", got)
	}
}

func TestBuildLeavesNothingHalf(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failure := errors.New("disk is full")
	parts := &fakeParts{root: "root"}
	b := newBuilder(t, parts)

	parts.before = func(context.Context, string) error { return failure }
	if _, err := b.build(ctx); !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	if got := names(t, b.Root); got != "" {
		t.Errorf("after a failure: %s", got)
	}

	parts.before = func(ctx context.Context, _ string) error { cancel(); return ctx.Err() }
	if _, err := b.build(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := names(t, b.Root); got != "" {
		t.Errorf("after a cancel: %s", got)
	}

	// Cancelled after all is made, before it has its name.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	parts.before = func(context.Context, string) error { cancel(); return nil }
	if _, err := b.build(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := names(t, b.Root); got != "" {
		t.Errorf("after a late cancel: %s", got)
	}

	// What kill -9 leaves is no image, and goes.
	half := filepath.Join(b.Root, scratchPrefix+"123", "sub")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(half, 0o500); err != nil {
		t.Fatal(err)
	}
	if list, skipped, err := List(b.Root); err != nil || len(list)+len(skipped) != 0 {
		t.Errorf("List: %v %v %v", list, skipped, err)
	}
	parts.before = nil
	img, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, b.Root); got != img.Digest {
		t.Errorf("after the next build: %s", got)
	}
}

func TestTwoBuilds(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	parts := &fakeParts{root: "root", before: func(context.Context, string) error { close(started); <-goOn; return nil }}
	b := newBuilder(t, parts)
	if Building(b.Root) {
		t.Error("building before anything began")
	}
	type result struct {
		img *Image
		err error
	}
	results := make(chan result, 2)
	go func() { img, err := b.build(t.Context()); results <- result{img, err} }()
	<-started
	if !Building(b.Root) {
		t.Error("nothing is said to build")
	}

	hurried := *b
	hurried.NoWait = true
	if _, err := hurried.build(t.Context()); !errors.Is(err, ErrBuilding) {
		t.Errorf("NoWait: error %v, want ErrBuilding", err)
	}

	waiting := make(chan struct{})
	patient := *b
	patient.Progress = func(s Step) {
		if s.Name == stepWait {
			close(waiting)
		}
	}
	go func() { img, err := patient.build(t.Context()); results <- result{img, err} }()
	select {
	case <-waiting:
	case <-time.After(time.Minute):
		t.Fatal("the second build does not say that it waits")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	impatient := *b
	if _, err := impatient.build(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
	close(goOn)
	one, two := <-results, <-results
	if one.err != nil || two.err != nil || one.img.Digest != two.img.Digest || parts.made != 1 {
		t.Errorf("%v, %v, root made %d times", one.err, two.err, parts.made)
	}
	if Building(b.Root) {
		t.Error("still building")
	}
}

func TestAgentMustBeStatic(t *testing.T) {
	b := newBuilder(t, &fakeParts{})
	b.Agent = filepath.Join(t.TempDir(), "none")
	if _, err := b.build(t.Context()); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(b.Agent, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := b.build(t.Context()); err == nil || !strings.Contains(err.Error(), "not a program") {
		t.Errorf("a script: %v", err)
	}
	b.Agent = "/bin/true"
	if _, err := b.build(t.Context()); err == nil || !strings.Contains(err.Error(), "not static") {
		t.Errorf("a dynamic program: %v", err)
	}
}
