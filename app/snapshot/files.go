package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"sync"
)

// fileNames lists what lies in a folder, at most limit, in order and without the manifest.
func fileNames(dir string, limit int) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	all, err := d.Readdirnames(limit + 2)
	if err != nil && len(all) > 0 {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if name != manifestFile {
			names = append(names, name)
		}
	}
	if len(names) > limit {
		return nil, fmt.Errorf("more than %d files", limit)
	}
	sort.Strings(names)
	return names, nil
}

// digestAll fills in the manifest's entries, and waits for each file to be on disk.
func (d *Draft) digestAll(ctx context.Context, m *Manifest, progress func(done, total int64)) error {
	names, err := fileNames(d.dir, maxFiles)
	if err != nil {
		return err
	}
	m.Files = make(map[string]File, len(names))
	for _, name := range names {
		m.Files[name] = File{}
	}
	layers := m.layers()
	var jobs []job
	for _, name := range names {
		f, err := openPlain(filepath.Join(d.dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		entry, cost, err := measure(f, layers[name])
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m.Files[name] = entry
		jobs = append(jobs, job{name, entry, cost})
	}
	var mu sync.Mutex
	return each(ctx, jobs, progress, func(ctx context.Context, j job, read func(int64)) error {
		path := filepath.Join(d.dir, j.name)
		f, err := openPlain(path)
		if err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		defer f.Close()
		// What is on disk is digested: writing back moves no data, but may make a hole of what is not allocated yet.
		if err := d.step("sync", path); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		entry := j.File
		if entry.SHA256, err = digest(ctx, f, entry, read); err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		mu.Lock()
		m.Files[j.name] = entry
		mu.Unlock()
		return nil
	})
}

// job is a file to be digested.
type job struct {
	name string
	File
	cost int64 // bytes to read, about
}

// maxWorkers bounds the files that are digested at once: more find neither processors nor a faster disk.
const maxWorkers = 4

// each does all jobs, some at once, the largest first. The error is that of the first file by name among those that failed; the others are cut short.
func each(ctx context.Context, jobs []job, progress func(done, total int64), do func(ctx context.Context, j job, read func(int64)) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu          sync.Mutex
		done, total int64
		failed      = map[string]error{}
		wg          sync.WaitGroup
	)
	sort.SliceStable(jobs, func(i, j int) bool { return jobs[i].cost > jobs[j].cost })
	for _, j := range jobs {
		total += j.cost
	}
	read := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		done = min(done+n, total) // rounded to pages it may be a little more
		if progress != nil {
			progress(done, total)
		}
	}
	queue := make(chan job, len(jobs))
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	for range min(maxWorkers, len(jobs), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for j := range queue {
				if ctx.Err() != nil {
					return
				}
				if err := do(ctx, j, read); err != nil {
					mu.Lock()
					failed[j.name] = err
					mu.Unlock()
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return firstError(ctx, failed)
}

// firstError prefers causes to what was cut short because of them.
func firstError(ctx context.Context, failed map[string]error) error {
	var names []string
	for name := range failed {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := errors.Is(failed[names[i]], context.Canceled), errors.Is(failed[names[j]], context.Canceled)
		return a != b && b || a == b && names[i] < names[j]
	})
	if len(names) > 0 {
		return failed[names[0]]
	}
	return ctx.Err()
}
