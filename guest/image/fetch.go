package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// fetchAll gets the base and the npm packages, side by side, from the cache where they are there.
func fetchAll(ctx context.Context, p *plan, o BuildOptions) (base string, tarballs []string, err error) {
	bases, npm := filepath.Join(o.Cache, "base"), filepath.Join(o.Cache, "npm")
	for _, dir := range []string{bases, npm} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", nil, err
		}
		if err := sweep(dir); err != nil {
			return "", nil, err
		}
	}
	base = filepath.Join(bases, baseDigest(p.distribution, p.arch)+".tar.zst")
	tarballs = make([]string, len(p.packages))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if _, err := os.Stat(base); err == nil && !o.Refresh {
			o.Progress(Step{Name: stepBase, Done: 1, Total: 1, Detail: "cached"})
			return nil
		}
		return cacheBase(ctx, p, base, o)
	})
	g.Go(func() error {
		total := int64(len(p.packages))
		for i, pkg := range p.packages {
			o.Progress(Step{Name: stepNPM, Done: int64(i), Total: total, Detail: pkg.Name + " " + pkg.version()})
			var err error
			if tarballs[i], err = fetchPackage(ctx, pkg, npm, o.Log); err != nil {
				return err
			}
		}
		o.Progress(Step{Name: stepNPM, Done: total, Total: total})
		return nil
	})
	if err := g.Wait(); err != nil {
		return "", nil, err
	}
	return base, tarballs, prune(map[string][]string{bases: {base}, npm: tarballs})
}

// cacheBase makes the base in a folder that the uids of a user namespace can reach, which a home folder may not be.
func cacheBase(ctx context.Context, p *plan, base string, o BuildOptions) error {
	scratch, err := newScratch(o.Cache)
	if err != nil {
		return err
	}
	part := filepath.Join(filepath.Dir(base), scratchPrefix+filepath.Base(base))
	o.Progress(Step{Name: stepBase, Detail: p.distribution.Name + " " + p.distribution.Codename})
	err = fetchBase(ctx, p.distribution, p.arch, scratch, part, o.Log, o.Progress)
	err = errors.Join(err, removeTree(scratch))
	if err != nil {
		return errors.Join(err, removeTree(part))
	}
	o.Progress(Step{Name: stepBase, Done: 1, Total: 1})
	return os.Rename(part, base)
}

// newScratch makes a folder for mmdebstrap, after deleting those that killed builds with the same cache left: the caller has the cache's lock.
func newScratch(cache string) (string, error) {
	parent := os.Getenv("TMPDIR")
	if parent == "" {
		parent = "/var/tmp" // /tmp may be memory
	}
	prefix := fmt.Sprintf("capsid-image-%s-", digestOf(os.Getuid(), cache)[:12])
	old, err := filepath.Glob(filepath.Join(parent, prefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		_ = removeTree(dir) // one of a user namespace's uids stays; it is the administrator's to delete
	}
	dir, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return "", err
	}
	// The uids of the namespace make folders of their own in it.
	return dir, os.Chmod(dir, 0o1777)
}

// prune deletes what a cache holds beyond what was just used.
func prune(used map[string][]string) error {
	for dir, keep := range used {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		kept := map[string]bool{}
		for _, k := range keep {
			kept[filepath.Base(k)] = true
		}
		for _, e := range entries {
			if !kept[e.Name()] {
				if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
