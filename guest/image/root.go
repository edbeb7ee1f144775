package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// rules changes when the code below makes something else of the same inputs.
const rules = 1

// compression is mkfs.erofs's: LZ4, which every kernel's EROFS reads and an emulated processor unpacks fastest, at the strength that is slow only
// here; clusters of 64 KiB, since the agents are programs of hundreds of megabytes.
var compression = []string{"-zlz4hc,9", "-C65536"}

// hostParts makes the pieces from this host's mirrors.
type hostParts struct {
	root string // where the host's own files are: "/", but for tests
	arch string
}

func (h hostParts) plan() (*plan, error) {
	d, err := readDistribution(h.root, h.arch)
	if err != nil {
		return nil, err
	}
	packages, err := Packages(h.arch)
	if err != nil {
		return nil, err
	}
	base := baseDigest(d, h.arch)
	return &plan{digest: digestOf(base, packages, moduleNames(), compression), arch: h.arch, distribution: d, packages: packages}, nil
}

func baseDigest(d *distribution, arch string) string {
	return digestOf(rules, d, arch, basePackages(), kernelHook, unusedDirs())
}

// digestOf is the SHA-256 of values that JSON can tell apart.
func digestOf(values ...any) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			panic(err) // only plain data comes here
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func moduleNames() []string {
	var names []string
	for _, m := range wantedModules() {
		names = append(names, m.name)
	}
	return names
}

func (h hostParts) makeRoot(ctx context.Context, p *plan, dir string, o BuildOptions) (string, error) {
	if err := checkTools(os.Geteuid() == 0); err != nil {
		return "", err
	}
	base, tarballs, err := fetchAll(ctx, p, o)
	if err != nil {
		return "", err
	}
	work := filepath.Join(dir, "work")
	t, err := openTree(work)
	if err != nil {
		return "", err
	}
	defer func() { _ = removeTree(work) }() // whoever failed removes dir, and reports
	if err := fillTree(ctx, t, p, base, tarballs, work, o.Progress); err != nil {
		return "", errors.Join(fmt.Errorf("root file system: %w", err), t.root.Close())
	}
	if err := t.finish(); err != nil {
		return "", fmt.Errorf("root file system: %w", err)
	}
	release, err := takeKernel(filepath.Join(work, "kernel"), dir)
	if err != nil {
		return "", err
	}
	o.Progress(Step{Name: stepUnpack, Done: t.size, Total: t.size, Bytes: true})
	if err := makeErofs(ctx, filepath.Join(work, "root"), filepath.Join(dir, rootFile), p.digest, t.n, o); err != nil {
		return "", fmt.Errorf("root file system: %w", err)
	}
	return release, removeTree(work)
}

// takeKernel moves the kernel to its place and makes the modules' archive.
func takeKernel(from, dir string) (release string, err error) {
	found, err := filepath.Glob(filepath.Join(from, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("kernel: its package has %d kernels, not one", len(found))
	}
	release = strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	if err := os.Rename(found[0], filepath.Join(dir, packedFile)); err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	if err := os.Chmod(filepath.Join(dir, packedFile), 0o644); err != nil { // Ubuntu's is readable by root alone
		return "", fmt.Errorf("kernel: %w", err)
	}
	tree, err := openModules(filepath.Join(from, "lib", "modules", release))
	if err != nil {
		return "", err
	}
	entries, err := tree.entries(wantedModules())
	if err != nil {
		return "", err
	}
	out, err := os.OpenFile(filepath.Join(dir, modulesFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	return release, errors.Join(writeArchive(out, entries), out.Close())
}

// makeErofs makes the file system. Its UUID is that of the inputs, so that the same inputs give the same bytes.
func makeErofs(ctx context.Context, from, to, digest string, entries int64, o BuildOptions) error {
	uuid := strings.Join([]string{digest[:8], digest[8:12], "4" + digest[13:16], "8" + digest[17:20], digest[20:32]}, "-")
	args := append(append([]string(nil), compression...), "-x-1", "--all-root", "-U"+uuid, to, from)
	cmd := exec.Command("mkfs.erofs", args...)
	var done int64
	cmd.Stdout = &lineWriter{line: func(l string) {
		_, file, ok := strings.Cut(l, "Processing ")
		if !ok {
			return
		}
		done++
		o.Progress(Step{Name: stepErofs, Done: min(done, entries), Total: entries, Detail: strings.TrimSuffix(file, " ...")})
	}}
	if err := run(ctx, cmd, io.Discard); err != nil {
		return err
	}
	o.Progress(Step{Name: stepErofs, Done: entries, Total: entries})
	return nil
}
