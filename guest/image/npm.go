package image

import (
	"context"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// fetchPackage leaves the tarball of an npm package in the cache folder and returns its path. One that is there and whole is not fetched
// again. The host's own npm fetches, as it is configured, in an empty folder, where no project of the host can have a say.
func fetchPackage(ctx context.Context, p Package, cache string, log io.Writer) (string, error) {
	want, err := p.sum()
	if err != nil {
		return "", err
	}
	name := filepath.Join(cache, hex.EncodeToString(want[:20])+".tgz")
	switch err := checkTarball(name, want); {
	case err == nil:
		return name, nil
	case !errors.Is(err, os.ErrNotExist):
		// Damaged on the disk: a new one takes its place.
		if err := os.Remove(name); err != nil {
			return "", err
		}
	}
	dir, err := os.MkdirTemp(cache, scratchPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	empty := filepath.Join(dir, "pack")
	if err := os.Mkdir(empty, 0o700); err != nil {
		return "", err
	}
	// npm keeps all that it downloads; a cache of its own, gone afterwards, keeps that from doubling.
	cmd := exec.Command("npm", "pack", "--ignore-scripts", "--loglevel=error", "--no-update-notifier", "--cache", filepath.Join(dir, "npm"), p.NPM+"@"+p.Version)
	cmd.Dir = empty
	if err := run(ctx, cmd, log); err != nil {
		return "", fmt.Errorf("npm package %s@%s: %w", p.NPM, p.Version, err)
	}
	got, err := filepath.Glob(filepath.Join(empty, "*.tgz"))
	if err != nil || len(got) != 1 {
		return "", fmt.Errorf("npm package %s@%s: npm pack left %d tarballs, not one", p.NPM, p.Version, len(got))
	}
	if err := checkTarball(got[0], want); err != nil {
		return "", fmt.Errorf("npm package %s@%s: %w", p.NPM, p.Version, err)
	}
	if err := syncPath(got[0]); err != nil {
		return "", err
	}
	return name, os.Rename(got[0], name)
}

// checkTarball compares a file with its SHA-512.
func checkTarball(name string, want []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := h.Sum(nil); subtle.ConstantTimeCompare(got, want) != 1 {
		return fmt.Errorf("its SHA-512 is %s…, the lock file has %s…: refused", hex.EncodeToString(got[:8]), hex.EncodeToString(want[:8]))
	}
	return nil
}
