package virtio

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mapping says how guest RAM is mapped, which decides how pages of it are given back to the host.
type Mapping int

const (
	// Shared is MAP_SHARED of a memfd, or of a file whose file system can punch holes. The page is gone for all who map it.
	Shared Mapping = iota
	// Private is MAP_PRIVATE of no file.
	Private
	// PrivateFile is MAP_PRIVATE of a file: what is discarded reads as the file again.
	PrivateFile
)

// Discard gives the whole pages of the host's that lie in b back to it; what b has of others stays. The guest may use the memory meanwhile.
func (m Mapping) Discard(b []byte) error {
	if b = wholePages(b); len(b) == 0 {
		return nil
	}
	advice := unix.MADV_DONTNEED // drops the process's own pages
	if m == Shared {
		advice = unix.MADV_REMOVE // punches a hole
	}
	for {
		err := unix.Madvise(b, advice)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("madvise: give back %d bytes: %w", len(b), err)
		}
		return nil
	}
}

// wholePages is what of b consists of whole pages.
func wholePages(b []byte) []byte {
	page := uintptr(os.Getpagesize())
	// The address alone is wanted. It stays what it is: guest RAM is mapped, not Go's.
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := -start % page
	if skip >= uintptr(len(b)) {
		return nil
	}
	b = b[skip:]
	return b[:uintptr(len(b))&^(page-1)]
}
