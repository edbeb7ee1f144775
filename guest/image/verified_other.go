//go:build !linux

package image

import "context"

// VerifyOnce is Verify here.
func (i *Image) VerifyOnce(ctx context.Context, _ string, progress func(done, total int64)) error {
	return i.Verify(ctx, progress)
}
