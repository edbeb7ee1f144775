package virtio

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is discarded is gone from the host's memory, and nothing beside it.
func TestDiscard(t *testing.T) {
	page := os.Getpagesize()
	memfd, err := unix.MemfdCreate("ram", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(memfd)
	path := filepath.Join(t.TempDir(), "ram")
	if err := os.WriteFile(path, bytes.Repeat([]byte{'f'}, 16*page), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	if err := unix.Ftruncate(memfd, int64(16*page)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		mapping Mapping
		fd      int
		flags   int
		then    byte
	}{
		{"shared", Shared, memfd, unix.MAP_SHARED, 0},
		{"private", Private, -1, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 0},
		{"private file", PrivateFile, file, unix.MAP_PRIVATE, 'f'},
	} {
		t.Run(c.name, func(t *testing.T) {
			ram, err := unix.Mmap(c.fd, 0, 16*page, unix.PROT_READ|unix.PROT_WRITE, c.flags)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(ram)
			for _, r := range []struct{ from, to, wholeFrom, wholeTo int }{
				{4 * page, 6 * page, 4, 6}, {4*page + 1, 8*page - 1, 5, 7}, {0, 16 * page, 0, 16},
				{4*page + 1, 5 * page, 0, 0}, {5 * page, 6*page - 1, 0, 0}, {3*page + 5, 3*page + 9, 0, 0}, {page, page, 0, 0},
			} {
				for i := range ram {
					ram[i] = 'x'
				}
				if err := c.mapping.Discard(ram[r.from:r.to]); err != nil {
					t.Fatal(err)
				}
				if got := resident(t, ram); c.fd < 0 || c.mapping == Shared {
					if want := 16 - (r.wholeTo - r.wholeFrom); got != want {
						t.Errorf("%+v: %d pages are held, want %d", r, got, want)
					}
				}
				for i, b := range ram {
					want := byte('x')
					if i >= r.wholeFrom*page && i < r.wholeTo*page {
						want = c.then
					}
					if b != want {
						t.Fatalf("%+v: byte %d is %q, want %q", r, i, b, want)
					}
				}
			}
		})
	}
	if err := Shared.Discard(nil); err != nil {
		t.Error(err)
	}
}

// resident counts the pages that are in memory (mincore(2)).
func resident(t *testing.T, b []byte) (n int) {
	vec := make([]byte, len(b)/os.Getpagesize())
	// b is mapped and not Go's; vec is written during the call alone.
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	for _, v := range vec {
		n += int(v & 1)
	}
	return n
}

// A host that cannot give back says so.
func TestDiscardFails(t *testing.T) {
	page := os.Getpagesize()
	ram, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(ram)
	if err := Shared.Discard(ram); err == nil {
		t.Error("MADV_REMOVE of anonymous memory went well")
	}
}
