package vmmtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// measureDisk does r.Count operations of the kind that r.Text names and says how long they took.
func measureDisk(r request) (answer, error) {
	mode, size, workers := os.O_RDONLY, longBlock, 1
	switch r.Text {
	case writeLong:
		mode = os.O_WRONLY
	case writeFlush:
		mode, size = os.O_WRONLY, randomBlock
	case readRandom:
		size = randomBlock
	case readManyOf:
		size, workers = randomBlock, atATime
	case readLong:
	default:
		return answer{}, fmt.Errorf("no such measurement: %q", r.Text)
	}
	f, err := os.OpenFile(filepath.Join("/dev", r.Disk), mode|unix.O_DIRECT, 0)
	if err != nil {
		return answer{}, err
	}
	defer f.Close()
	end, err := f.Seek(0, 2)
	if err != nil {
		return answer{}, err
	}
	blocks := end / int64(size)
	if blocks == 0 {
		return answer{}, errors.New("the disk is too small")
	}
	one := func(buf []byte, i int) error {
		at := int64(i) % blocks
		if size == randomBlock {
			at = rand.Int64N(blocks)
		}
		if mode == os.O_RDONLY {
			_, err := f.ReadAt(buf, at*int64(size))
			return err
		}
		_, err := f.WriteAt(buf, at*int64(size))
		if err == nil && r.Text == writeFlush {
			err = f.Sync()
		}
		return err
	}
	// Mapped memory begins at a page, as O_DIRECT wants it; it is touched before the clock runs.
	mem, err := unix.Mmap(-1, 0, size*workers, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return answer{}, err
	}
	defer unix.Munmap(mem)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	started := time.Now()
	for w := range workers {
		wg.Go(func() {
			for i := w; i < r.Count && errs[w] == nil; i += workers {
				errs[w] = one(mem[w*size:][:size], i)
			}
		})
	}
	wg.Wait()
	return answer{Nanos: time.Since(started).Nanoseconds()}, errors.Join(errs...)
}
