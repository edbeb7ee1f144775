package disk

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A plain file, a stack of it, and high stacks in which the blocks are spread over the layers, in the page cache.
func BenchmarkIO(b *testing.B) {
	const size = 64 << 20
	type disk interface {
		io.ReaderAt
		io.WriterAt
	}
	fill := func(b *testing.B, layers int) []string {
		paths := create(b, b.TempDir(), size, "0")
		s := openPaths(b, paths, false)
		if _, err := s.WriteAt(make([]byte, size), 0); err != nil {
			b.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		for i := 1; i < layers; i++ {
			path := create(b, filepath.Dir(paths[0]), size, fmt.Sprint(i))
			push(b, s, path[0])
			paths = append(paths, path...)
			for range size / BlockSize / 64 / layers { // in runs of 256 KiB
				if _, err := s.WriteAt(make([]byte, 64*BlockSize), r.Int64N(size/(64*BlockSize))*64*BlockSize); err != nil {
					b.Fatal(err)
				}
			}
		}
		s.Close()
		return paths
	}
	for _, c := range []struct {
		name string
		open func(b *testing.B) disk
	}{
		{"file", func(b *testing.B) disk {
			f, err := os.OpenFile(fill(b, 1)[0], os.O_RDWR, 0)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { f.Close() })
			return f
		}},
		{"1 layer", func(b *testing.B) disk { return openPaths(b, fill(b, 1), false) }},
		{"3 layers", func(b *testing.B) disk { return openPaths(b, fill(b, 3), false) }},
		{"64 layers", func(b *testing.B) disk { return openPaths(b, fill(b, 64), false) }},
	} {
		for _, n := range []int{4 << 10, 128 << 10} {
			for kind := range 2 {
				b.Run(fmt.Sprintf("%s/%s/%dk", c.name, []string{"read", "write"}[kind], n>>10), func(b *testing.B) {
					d := c.open(b)
					r := rand.New(rand.NewPCG(2, 2))
					p := make([]byte, n)
					b.SetBytes(int64(n))
					for b.Loop() {
						off := r.Int64N(int64(size/n)) * int64(n)
						var err error
						if kind == 0 {
							_, err = d.ReadAt(p, off)
						} else {
							_, err = d.WriteAt(p, off)
						}
						if err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// What a snapshot costs a disk, by its size.
func BenchmarkFreeze(b *testing.B) {
	for _, size := range []int64{1 << 30, 64 << 30, 1 << 40} {
		b.Run(fmt.Sprintf("%dG", size>>30), func(b *testing.B) {
			dir := b.TempDir()
			s := openPaths(b, create(b, dir, size, "0"), false)
			defer func() { s.Close() }()
			i := 0
			for b.Loop() {
				b.StopTimer()
				if s.Layers() == MaxLayers {
					s.Close()
					i++
					s = openPaths(b, create(b, dir, size, fmt.Sprint("base", i)), false)
				}
				i++
				f, err := OpenFiles(create(b, dir, size, fmt.Sprint(i)), false)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.WriteAt(make([]byte, BlockSize), size/2); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := s.Freeze(f[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Opening reads where a layer has data: here in one extent, or in 10,000.
func BenchmarkOpen(b *testing.B) {
	const size = 64 << 30
	for _, extents := range []int64{1, 10_000} {
		b.Run(fmt.Sprintf("%d extents", extents), func(b *testing.B) {
			paths := create(b, b.TempDir(), size, "0", "1")
			s := openPaths(b, paths, false)
			for i := range extents {
				if _, err := s.WriteAt(make([]byte, BlockSize), i*3*BlockSize); err != nil {
					b.Fatal(err)
				}
			}
			s.Close()
			for b.Loop() {
				s, err := OpenPaths(paths, false)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}
