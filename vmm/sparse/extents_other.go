//go:build !linux

package sparse

import "os"

// Extents has the whole file: holes are read as zeros.
func Extents(_ *os.File, size int64) ([]Extent, error) { return Add(nil, Extent{0, size}), nil }
