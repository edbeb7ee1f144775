package image

import (
	"context"
	"path/filepath"

	"capsid/guest/verified"
)

// VerifyOnce is Verify, but for an image that was verified before and was not touched since; see package verified, also for record.
func (i *Image) VerifyOnce(ctx context.Context, record string, progress func(done, total int64)) error {
	paths := []string{filepath.Join(i.Dir, manifestFile)}
	for name := range i.Manifest.Files {
		paths = append(paths, filepath.Join(i.Dir, name))
	}
	return verified.Once(record, paths, verified.Change, func() error { return i.Verify(ctx, progress) })
}
