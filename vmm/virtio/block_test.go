package virtio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"capsid/vmm/disk"
)

// testFile makes a disk of random bytes. In memory there is no ZERO_RANGE.
func testFile(t testing.TB, size int, inMemory bool) (*os.File, []byte) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	var f *os.File
	if inMemory {
		fd, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f = os.NewFile(uintptr(fd), "disk")
	} else {
		var err error
		if f, err = os.Create(filepath.Join(t.TempDir(), "disk")); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return f, data
}

// testStack is a disk of one file, or of more.
func testStack(t testing.TB, f *os.File, readOnly bool, above ...*os.File) *disk.Stack {
	t.Helper()
	s, err := disk.Open(append([]*os.File{f}, above...), readOnly)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testBlock is a started block device on f.
func testBlock(t testing.TB, f *os.File, readOnly bool, features uint64) *driver {
	t.Helper()
	b, err := NewBlock(BlockConfig{Disk: testStack(t, f, readOnly), Serial: "disk-7"})
	if err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, b)
	d.start(features)
	return d
}

func blockHeader(kind uint32, sector uint64) []byte {
	h := binary.LittleEndian.AppendUint32(nil, kind)
	h = binary.LittleEndian.AppendUint32(h, 0)
	return binary.LittleEndian.AppendUint64(h, sector)
}

func blockRangeBytes(sector uint64, sectors, flags uint32) []byte {
	b := binary.LittleEndian.AppendUint64(nil, sector)
	b = binary.LittleEndian.AppendUint32(b, sectors)
	return binary.LittleEndian.AppendUint32(b, flags)
}

// request sends one request whose header and data are one buffer and whose answer and status another, as no Linux does.
func (d *driver) request(kind uint32, sector uint64, data []byte, in int) ([]byte, byte) {
	d.t.Helper()
	got := d.queues[0].do(append(blockHeader(kind, sector), data...), in+1)
	if len(got) != in+1 {
		d.t.Fatalf("request %d: %d bytes written of %d", kind, len(got), in+1)
	}
	return got[:in], got[in]
}

func TestBlockConfig(t *testing.T) {
	f, _ := testFile(t, 1<<20, true)
	d := testBlock(t, f, false, allFeatures)
	if id := d.read(regDeviceID); id != 2 {
		t.Errorf("device %d", id)
	}
	le := binary.LittleEndian
	c := d.readConfig(0, 60)
	for name, v := range map[string][2]uint64{
		"capacity": {le.Uint64(c), 2048}, "size_max": {uint64(le.Uint32(c[8:])), 256 << 10}, "seg_max": {uint64(le.Uint32(c[12:])), 254},
		"blk_size": {uint64(le.Uint32(c[20:])), 512}, "physical_block_exp": {uint64(c[24]), 3}, "min_io_size": {uint64(le.Uint16(c[26:])), 8},
		"max_discard_sectors": {uint64(le.Uint32(c[36:])), 512 << 10}, "max_discard_seg": {uint64(le.Uint32(c[40:])), 16},
		"discard_sector_alignment": {uint64(le.Uint32(c[44:])), 8}, "max_write_zeroes_sectors": {uint64(le.Uint32(c[48:])), 128 << 10},
		"max_write_zeroes_seg": {uint64(le.Uint32(c[52:])), 1}, "write_zeroes_may_unmap": {uint64(c[56]), 1},
	} {
		if v[0] != v[1] {
			t.Errorf("%s is %d", name, v[0])
		}
	}
	if want := uint64(1<<1 | 1<<2 | 1<<6 | 1<<9 | 1<<10 | 1<<13 | 1<<14); d.dev.dev.Features() != want {
		t.Errorf("features %#x, want %#x", d.dev.dev.Features(), want)
	}
	// A byte, an odd width, past the end, nowhere near.
	d.dev.Read(regConfig, c[:1])
	d.dev.Read(regConfig+57, c[:7])
	d.dev.Read(regConfig+59, c[:8])
	if !bytes.Equal(c[:8], make([]byte, 8)) {
		t.Errorf("past the end: %x", c[:8])
	}
	d.dev.Read(^uint64(0), c[:8])
	d.dev.Write(regConfig, []byte{1, 2, 3})
	d.dev.Write(^uint64(0), []byte{1, 2, 3})
	if !bytes.Equal(d.readConfig(0, 8), le.AppendUint64(nil, 2048)) {
		t.Error("the capacity was written")
	}

	ro := testBlock(t, f, true, allFeatures)
	if want := uint64(1<<1 | 1<<2 | 1<<5 | 1<<6 | 1<<9 | 1<<10); ro.dev.dev.Features() != want {
		t.Errorf("read-only: features %#x, want %#x", ro.dev.dev.Features(), want)
	}
	if c := ro.readConfig(36, 24); !bytes.Equal(c, make([]byte, 24)) {
		t.Errorf("read-only: %x", c)
	}
}

func TestNewBlock(t *testing.T) {
	f, _ := testFile(t, 4096, false)
	for n, want := range map[int]bool{20: true, 21: false} {
		if _, err := NewBlock(BlockConfig{Disk: testStack(t, f, true), Serial: strings.Repeat("x", n)}); (err == nil) != want {
			t.Errorf("a serial of %d bytes: %v", n, err)
		}
	}
}

// Each request once, on a file system and in memory, with each way of negotiating.
func TestBlockRequests(t *testing.T) {
	const size = 1 << 20
	for _, inMemory := range []bool{false, true} {
		for _, features := range []uint64{allFeatures, FeatureVersion1} {
			t.Run(fmt.Sprintf("memory %v, features %#x", inMemory, features), func(t *testing.T) {
				f, want := testFile(t, size, inMemory)
				d := testBlock(t, f, false, features)
				check := func(what string) {
					t.Helper()
					got := make([]byte, size+1)
					n, _ := f.ReadAt(got, 0)
					if !bytes.Equal(got[:n], want) {
						t.Fatalf("%s: the file is not as it should be", what)
					}
				}
				must := func(what string, kind uint32, sector uint64, data []byte, in int) []byte {
					t.Helper()
					got, status := d.request(kind, sector, data, in)
					if status != blockOK {
						t.Fatalf("%s: status %d", what, status)
					}
					check(what)
					return got
				}
				for _, n := range []int{512, 4096, 128 << 10, size} {
					if got := must("read", blockIn, 0, nil, n); !bytes.Equal(got, want[:n]) {
						t.Errorf("read %d: wrong bytes", n)
					}
				}
				if got := must("last sector", blockIn, size/512-1, nil, 512); !bytes.Equal(got, want[size-512:]) {
					t.Error("last sector: wrong bytes")
				}
				must("nothing", blockIn, size/512, nil, 0)
				for i, n := range []int{512, 4096, 128 << 10} {
					p := bytes.Repeat([]byte{byte(i + 1)}, n)
					copy(want[8192:], p)
					must("write", blockOut, 16, p, 0)
				}
				must("flush", blockFlushRequest, 0, nil, 0)

				clear(want[1<<16 : 1<<16+1<<15])
				must("zero", blockZeroRanges, 0, blockRangeBytes(1<<7, 1<<6, 0), 0)
				clear(want[1<<17 : 1<<17+1<<15])
				must("zero and unmap", blockZeroRanges, 0, blockRangeBytes(1<<8, 1<<6, blockUnmap), 0)
				clear(want[512:1536])
				must("zero two sectors", blockZeroRanges, 0, blockRangeBytes(1, 2, 0), 0)
				must("zero nothing", blockZeroRanges, 0, blockRangeBytes(1, 0, 0), 0)

				before := blocks(t, f)
				clear(want[1<<18 : 1<<18+3<<16])
				two := append(blockRangeBytes(1<<9, 1<<7, 0), blockRangeBytes(1<<9+1<<7, 1<<8, 0)...)
				must("discard", blockDiscardRanges, 0, two, 0)
				if freed := before - blocks(t, f); freed < 2<<16 { // some goes to the file system's own
					t.Errorf("a discard of %d bytes gave %d back", 3<<16, freed)
				}

				if got := must("serial", blockGetID, 0, nil, 20); string(got) != "disk-7"+strings.Repeat("\x00", 14) {
					t.Errorf("serial %q", got)
				}
				if got := must("short serial", blockGetID, 0, nil, 3); string(got) != "dis" {
					t.Errorf("serial %q", got)
				}
			})
		}
	}
}

// blocks is how much of the disk a file takes, in bytes.
func blocks(t *testing.T, f *os.File) int64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}

func TestBlockRefusals(t *testing.T) {
	const sectors = 256
	f, want := testFile(t, sectors*512, true)
	ranges := func(n int) (b []byte) {
		for range n {
			b = append(b, blockRangeBytes(0, 1, 0)...)
		}
		return b
	}
	for _, c := range []struct {
		name     string
		readOnly bool
		kind     uint32
		sector   uint64
		data     []byte
		in       int
		want     byte
	}{
		{"odd read", false, blockIn, 0, nil, 511, blockIOError},
		{"odd write", false, blockOut, 0, make([]byte, 513), 0, blockIOError},
		{"read over the end", false, blockIn, sectors - 1, nil, 1024, blockIOError},
		{"read past the end", false, blockIn, sectors, nil, 512, blockIOError},
		{"read far out", false, blockIn, 1 << 55, nil, 512, blockIOError},
		{"read that wraps", false, blockIn, ^uint64(0), nil, 512, blockIOError},
		{"write over the end", false, blockOut, sectors - 1, make([]byte, 1024), 0, blockIOError},
		{"write that wraps", false, blockOut, ^uint64(0), make([]byte, 1024), 0, blockIOError},
		{"write past the end", false, blockOut, sectors, make([]byte, 512), 0, blockIOError},
		{"unknown type", false, 99, 0, nil, 0, blockUnsupported},
		{"write to read-only", true, blockOut, 0, make([]byte, 512), 0, blockIOError},
		{"discard of read-only", true, blockDiscardRanges, 0, blockRangeBytes(0, 8, 0), 0, blockIOError},
		{"zero of read-only", true, blockZeroRanges, 0, blockRangeBytes(0, 8, 0), 0, blockIOError},
		{"flush of read-only", true, blockFlushRequest, 0, nil, 0, blockOK},
		{"discard nothing", false, blockDiscardRanges, 0, nil, 0, blockIOError},
		{"discard half a range", false, blockDiscardRanges, 0, blockRangeBytes(0, 8, 0)[:8], 0, blockIOError},
		{"discard too many ranges", false, blockDiscardRanges, 0, ranges(17), 0, blockIOError},
		{"discard over the end", false, blockDiscardRanges, 0, blockRangeBytes(sectors-1, 2, 0), 0, blockIOError},
		{"discard that wraps", false, blockDiscardRanges, 0, blockRangeBytes(^uint64(0), 2, 0), 0, blockIOError},
		{"discard one good and one bad", false, blockDiscardRanges, 0, append(blockRangeBytes(0, 8, 0), blockRangeBytes(sectors, 1, 0)...), 0, blockIOError},
		{"discard with unmap", false, blockDiscardRanges, 0, blockRangeBytes(0, 8, blockUnmap), 0, blockUnsupported},
		{"zero with an unknown flag", false, blockZeroRanges, 0, blockRangeBytes(0, 8, 2), 0, blockUnsupported},
		{"zero two ranges", false, blockZeroRanges, 0, ranges(2), 0, blockIOError},
		{"zero over the end", false, blockZeroRanges, 0, blockRangeBytes(1, sectors, 0), 0, blockIOError},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := testBlock(t, f, c.readOnly, allFeatures)
			if _, status := d.request(c.kind, c.sector, c.data, c.in); status != c.want {
				t.Errorf("status %d, want %d", status, c.want)
			}
			got := make([]byte, len(want)+1)
			if n, _ := f.ReadAt(got, 0); !bytes.Equal(got[:n], want) {
				t.Error("the file was changed")
			}
			if got, status := d.request(blockIn, 1, nil, 512); status != blockOK || !bytes.Equal(got, want[512:1024]) {
				t.Errorf("afterwards: status %d", status)
			}
		})
	}
	t.Run("longest", func(t *testing.T) { // the segments may all be the same memory
		f, _ := testFile(t, 512, true)
		if err := f.Truncate(2 * blockMaxBytes); err != nil {
			t.Fatal(err)
		}
		d := testBlock(t, f, false, allFeatures)
		for segments, want := range map[int]byte{blockSegments: blockOK, blockSegments + 1: blockIOError} {
			data, status := d.room(blockSegmentSize), d.room(1)
			list := []buffer{d.put(blockHeader(blockIn, 0))}
			for range segments {
				list = append(list, data)
			}
			d.queues[0].tables = map[uint16]uint64{} // longer ones
			d.queues[0].add(true, append(list, status)...)
			d.queues[0].kick()
			d.queues[0].wait()
			if got := d.bytes(status.at, 1)[0]; got != want {
				t.Errorf("%d segments: status %d", segments, got)
			}
		}
	})
}

// What has no header or no status is the driver's fault.
func TestBlockMalformed(t *testing.T) {
	f, _ := testFile(t, 4096, true)
	d := testBlock(t, f, false, allFeatures)
	for name, list := range map[string]func() []buffer{
		"no status":    func() []buffer { return []buffer{d.put(blockHeader(blockIn, 0))} },
		"no header":    func() []buffer { return []buffer{d.room(513)} },
		"short header": func() []buffer { return []buffer{d.put(blockHeader(blockIn, 0)[:15]), d.room(513)} },
	} {
		d.start(allFeatures)
		d.queues[0].add(false, list()...)
		d.queues[0].kick()
		if err := d.fault(); !errors.Is(err, ErrRing) {
			t.Errorf("%s: %v", name, err)
		}
		d.start(allFeatures)
		if _, status := d.request(blockIn, 0, nil, 512); status != blockOK {
			t.Errorf("%s: afterwards: status %d", name, status)
		}
	}
}

// Errors of the host are the guest's errors: other files take the place of the disk.
func TestBlockHostErrors(t *testing.T) {
	for _, c := range []struct {
		path         string
		features     uint64
		write, flush byte
	}{
		{"/dev/full", allFeatures, blockIOError, blockIOError},
		{"/dev/null", allFeatures, blockOK, blockIOError},          // takes bytes, but fdatasync(2) fails
		{"/dev/null", FeatureVersion1, blockIOError, blockIOError}, // without flushes, each write is one
	} {
		f, _ := testFile(t, 1<<20, false)
		d := testBlock(t, f, false, c.features)
		other, err := os.OpenFile(c.path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := unix.Dup3(int(other.Fd()), int(f.Fd()), unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{512, 256 << 10} {
			if _, status := d.request(blockOut, 0, make([]byte, n), 0); status != c.write {
				t.Errorf("%s, features %#x: write: status %d", c.path, c.features, status)
			}
		}
		if _, status := d.request(blockFlushRequest, 0, nil, 0); status != c.flush {
			t.Errorf("%s, features %#x: flush: status %d", c.path, c.features, status)
		}
		if _, status := d.request(blockZeroRanges, 0, blockRangeBytes(0, 8, 0), 0); status != blockIOError {
			t.Errorf("%s, features %#x: zero: status %d", c.path, c.features, status)
		}
	}
	f, _ := testFile(t, 1<<20, false)
	d := testBlock(t, f, false, allFeatures)
	if err := f.Truncate(1 << 19); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{4096, 1 << 20} {
		if _, status := d.request(blockIn, 1<<10-1, nil, n); status != blockIOError {
			t.Errorf("a file that was cut: status %d", status)
		}
	}
}

// slowDisk lets one request after the other go on by a token.
type slowDisk struct {
	backing
	begun, token chan struct{}
	active       atomic.Int32
}

func (s *slowDisk) Readv(v [][]byte, off int64, atOnce bool) (int, error) {
	if atOnce {
		return 0, nil
	}
	s.active.Add(1)
	defer s.active.Add(-1)
	s.begun <- struct{}{}
	<-s.token
	return s.backing.Readv(v, off, false)
}

// Requests are served side by side, as many as there are workers; the others wait in the ring. A pause waits for those, and no others begin.
func TestBlockInFlight(t *testing.T) {
	f, want := testFile(t, 1<<20, true)
	b, err := NewBlock(BlockConfig{Disk: testStack(t, f, false)})
	if err != nil {
		t.Fatal(err)
	}
	const total = 3 * blockWorkers
	slow := &slowDisk{backing: b.disk, begun: make(chan struct{}, total), token: make(chan struct{}, total)}
	b.disk = slow
	d := newDriver(t, b)
	d.start(allFeatures)
	q := d.queues[0]
	answers := map[uint16]buffer{}
	sector := map[uint16]int{}
	var quick uint16
	for i := range total {
		if i == blockWorkers-1 { // one that need not wait, before all workers are busy
			quick, _ = q.add(true, d.put(blockHeader(blockGetID, 0)), d.room(21))
		}
		room := d.room(513)
		head, ok := q.add(true, d.put(blockHeader(blockIn, uint64(i))), room)
		if !ok {
			t.Fatal("full")
		}
		answers[head], sector[head] = room, i
	}
	q.kick()
	for range blockWorkers {
		<-slow.begun
	}
	if n := slow.active.Load(); n != blockWorkers {
		t.Errorf("%d requests at once", n)
	}
	if head, n := q.wait(); head != quick || n != 21 {
		t.Errorf("request %d was answered with %d bytes, not the quick one", head, n)
	}
	paused := make(chan struct{})
	go func() {
		d.dev.Pause()
		close(paused)
	}()
	for range blockWorkers {
		slow.token <- struct{}{}
	}
	// The pause may come before or after the tokens: then more begin, and it waits for them too.
	go func() {
		for range total - blockWorkers {
			slow.token <- struct{}{}
		}
	}()
	<-paused
	s := d.dev.queues[0].State()
	if slow.active.Load() != 0 || s.NextAvail != s.NextUsed || s.NextUsed <= blockWorkers || uint16(q.usedWord.Load()>>16) != s.NextUsed {
		t.Errorf("paused: %d at work, state %+v", slow.active.Load(), s)
	}
	d.dev.Resume()
	for range total {
		head, n := q.wait()
		got := d.bytes(answers[head].at, 513)
		if at := 512 * sector[head]; n != 513 || got[512] != blockOK || !bytes.Equal(got[:512], want[at:at+512]) {
			t.Fatalf("sector %d: %d bytes, status %d", sector[head], n, got[512])
		}
	}
}

// Reads and writes of all sizes in flight together, each on its own part of the disk.
func TestBlockStress(t *testing.T) {
	const slots, slotSize, rounds = 16, 128 << 10, 4000
	for _, inMemory := range []bool{false, true} {
		f, want := testFile(t, slots*slotSize, inMemory)
		d := testBlock(t, f, false, allFeatures)
		q := d.queues[0]
		r := rand.New(rand.NewPCG(1, 2))
		type slot struct {
			header, data, status buffer
			read                 []byte // what must be read
		}
		var all [slots]slot
		for i := range all {
			all[i] = slot{header: d.room(16), data: d.room(slotSize), status: d.room(1)}
			all[i].header.write = false
		}
		busy := map[uint16]int{}
		idle := r.Perm(slots)
		for done, begun := 0, 0; done < rounds; {
			for begun < rounds && len(idle) > 0 && r.IntN(4) > 0 {
				i := idle[0]
				s := &all[i]
				n := 512 * (1 + r.IntN(slotSize/512))
				if r.IntN(2) == 0 {
					n = min(n, 4096)
				}
				off := i*slotSize + 512*r.IntN((slotSize-n)/512+1)
				kind := uint32(r.IntN(2))
				copy(d.bytes(s.header.at, 16), blockHeader(kind, uint64(off/512)))
				data := d.bytes(s.data.at, n)
				s.read = nil
				if kind == blockOut {
					for j := 0; j < n; j += 512 {
						binary.LittleEndian.PutUint64(data[j:], r.Uint64())
					}
					copy(want[off:], data)
				} else {
					clear(data)
					s.read = want[off : off+n]
				}
				list := []buffer{s.header}
				for at := 0; at < n; { // in pieces of any length
					m := min(n-at, 1+r.IntN(n))
					list = append(list, buffer{s.data.at + uint64(at), uint32(m), kind == blockIn})
					at += m
				}
				if len(list) > 60 {
					continue
				}
				d.bytes(s.status.at, 1)[0] = 0xff
				head, ok := q.add(r.IntN(2) == 0, append(list, s.status)...)
				if !ok {
					break
				}
				q.kick()
				begun++
				idle = idle[1:]
				busy[head] = i
			}
			if len(busy) == 0 {
				continue
			}
			head, _ := q.wait()
			i, ok := busy[head]
			if !ok {
				t.Fatalf("request %d was returned twice", head)
			}
			delete(busy, head)
			idle = append(idle, i)
			done++
			s := &all[i]
			if status := d.bytes(s.status.at, 1)[0]; status != blockOK {
				t.Fatalf("status %d", status)
			}
			if s.read != nil && !bytes.Equal(d.bytes(s.data.at, len(s.read)), s.read) {
				t.Fatal("wrong bytes were read")
			}
		}
		got := make([]byte, len(want))
		if f.ReadAt(got, 0); !bytes.Equal(got, want) {
			t.Error("the file is not what was written")
		}
	}
}
