package disk

import (
	"context"
	"fmt"
	"os"

	"capsid/vmm/sparse"
)

// FlattenOptions say how layers become one.
type FlattenOptions struct {
	// Above says that the result will lie on other layers, those that were below: it keeps zeros, which hide what is below, and holes, which show it. Without
	// it the result is a disk by itself, and zeros become holes.
	Above bool
	// Progress is told from time to time how many of the bytes that the layers have were looked at. It may be nil.
	Progress func(done, total int64)
}

// flattenPiece is how much is copied at once.
const flattenPiece = 1 << 20

// Flatten writes layers, from the bottom to the top, as one to dst. The file has its name only when it is complete and on the host's disk, in the place of one
// that was there; when Flatten fails or is cancelled, nothing has changed. The layers are locked for reading meanwhile: none of them may be written.
func Flatten(ctx context.Context, dst string, paths []string, o FlattenOptions) (err error) {
	s, err := OpenPaths(paths, true)
	if err != nil {
		return err
	}
	defer s.Close()
	layers := *s.layers.Load()
	if bottom := layers[0]; bottom.blocks == nil {
		bottom.blocks = newBitmap(blocksOf(s.size))
		if err := bottom.scan(s.size, o.Above); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrLayers, paths[0], err)
		}
	}
	part := dst + ".part"
	if err := os.Remove(part); err != nil && !os.IsNotExist(err) { // of one that was killed
		return err
	}
	if err := Create(part, s.size); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(part)
		}
	}()
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.copyTo(ctx, f, layers, o); err != nil {
		return fmt.Errorf("flatten: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flatten: %w", err)
	}
	if err := os.Rename(part, dst); err != nil {
		return err
	}
	return syncDir(dst)
}

// copyTo copies what any of the layers has.
func (s *Stack) copyTo(ctx context.Context, f *os.File, layers []*layer, o FlattenOptions) error {
	end := blocksOf(s.size)
	total, done := int64(0), int64(0)
	for b := int64(0); b < end; {
		has, stop := anyHas(layers, b, end)
		if has {
			total += stop - b
		}
		b = stop
	}
	report := func() {
		if o.Progress != nil {
			o.Progress(done*BlockSize, total*BlockSize)
		}
	}
	report()
	buf := make([]byte, flattenPiece)
	for b := int64(0); b < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		has, stop := anyHas(layers, b, min(end, b+flattenPiece/BlockSize))
		if has {
			p := buf[:min(stop*BlockSize, s.size)-b*BlockSize]
			if _, err := readLayers(layers, [][]byte{p}, b*BlockSize, len(p), false); err != nil {
				return err
			}
			if err := sparse.Write(f, p, b*BlockSize, o.Above); err != nil {
				return err
			}
			done += stop - b
			report()
		}
		b = stop
	}
	return nil
}

// anyHas says whether a layer has block b, and where what is so ends; at most end.
func anyHas(layers []*layer, b, end int64) (bool, int64) {
	for _, l := range layers {
		has, stop := l.blocks.run(b, end)
		if end = stop; has {
			return true, end
		}
	}
	return false, end
}
