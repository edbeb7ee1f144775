package board

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capsid/vmm/kvm/tinykernel"
)

// counting adds one to a number in memory for ever: l: inc dword [200000h]; jmp l.
var counting = []byte{0xfa, 0xff, 0x05, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xf8}

const countAt = 0x200000

func (b *Board) count(t testing.TB) uint32 {
	t.Helper()
	p, err := b.memory.Slice(countAt, 4)
	if err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(p)
}

// passes waits until the guest has counted beyond n.
func (b *Board) passes(t testing.TB, n uint32) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); b.count(t) <= n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the guest stays at %d", b.count(t))
		}
	}
}

// saved are the open files of a snapshot.
type saved struct {
	memory, state *os.File
	diff          bool
}

func newSaved(t testing.TB) saved {
	t.Helper()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return saved{memory: open("ram"), state: open("state")}
}

func take(t testing.TB, b *Board, stay bool) saved {
	t.Helper()
	s := newSaved(t)
	var err error
	if s.diff, err = b.Snapshot(Snapshot{RAM: s.memory, State: s.state, Stay: stay}); err != nil {
		t.Fatal(err)
	}
	return s
}

// counted is what a snapshot says that the guest has counted to.
func (s saved) counted(t testing.TB) uint32 {
	t.Helper()
	var b [4]byte
	if _, err := s.memory.ReadAt(b[:], countAt); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(b[:])
}

func countingBoard(t testing.TB) (Config, *Board) {
	t.Helper()
	cfg := tinyBoard(t, counting)
	cfg.Disks, cfg.CPUs = nil, 1
	var err error
	if cfg.Pagemap, err = os.Open("/proc/self/pagemap"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cfg.Pagemap.Close() })
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return cfg, b
}

// TestClones: many machines go on from one moment, each by itself, and the first is not disturbed. CAPSID_CLONES says how many; 100 without it.
func TestClones(t *testing.T) {
	clones, err := strconv.Atoi(os.Getenv("CAPSID_CLONES"))
	if err != nil {
		clones = 100
	}
	cfg, b := countingBoard(t)
	b.passes(t, 1000)
	s := take(t, b, false)
	at := s.counted(t)
	b.passes(t, at)
	ids := map[string]bool{}
	for i := range clones {
		c, err := Restore(cfg, Restored{Base: s.memory, State: s.state})
		if err != nil {
			t.Fatal(err)
		}
		if n := c.count(t); n != at {
			t.Fatalf("clone %d begins at %d, not %d", i, n, at)
		}
		id, err := c.memory.Slice(vmgenid, vmgenidBytes)
		if err != nil {
			t.Fatal(err)
		}
		ids[string(id)] = true
		c.Resume()
		c.passes(t, at)
		c.Close()
	}
	if len(ids) != clones {
		t.Errorf("%d clones have %d generation IDs", clones, len(ids))
	}
	if n := s.counted(t); n != at {
		t.Errorf("the snapshot changed from %d to %d", at, n)
	}
	b.passes(t, b.count(t))
}

// TestLaterSnapshots hold what has changed since the first, and all of it.
func TestLaterSnapshots(t *testing.T) {
	cfg, b := countingBoard(t)
	b.passes(t, 1000)
	first := take(t, b, false)
	if first.diff {
		t.Fatal("the first snapshot is a difference")
	}
	b.passes(t, first.counted(t))
	second := take(t, b, true)
	if !second.diff {
		t.Fatal("the second snapshot is whole")
	}
	now := b.count(t)
	if second.counted(t) != now || now <= first.counted(t) {
		t.Errorf("first %d, second %d, memory %d", first.counted(t), second.counted(t), now)
	}
	if data, whole := used(t, second.memory), used(t, first.memory); data*4 > whole {
		t.Errorf("the difference takes %d bytes, the whole %d", data, whole)
	}
	time.Sleep(10 * time.Millisecond)
	if b.count(t) != now {
		t.Error("a machine that was to stay at rest goes on")
	}
	c, err := Restore(cfg, Restored{Base: first.memory, Diff: second.memory, State: second.state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := c.count(t); n != now {
		t.Errorf("restored at %d, not %d", n, now)
	}
	// All memory is what it was, but for the generation ID.
	want, got := slices.Clone(b.ram.bytes), slices.Clone(c.ram.bytes)
	clear(want[vmgenid : vmgenid+vmgenidBytes])
	clear(got[vmgenid : vmgenid+vmgenidBytes])
	if !bytes.Equal(want, got) {
		t.Error("memory differs")
	}
	c.Resume()
	c.passes(t, now)
	// And again, from one that was itself restored.
	third := take(t, c, false)
	if !third.diff || third.counted(t) <= now {
		t.Errorf("third: %v, %d", third.diff, third.counted(t))
	}
	d, err := Restore(cfg, Restored{Base: first.memory, Diff: third.memory, State: third.state})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.Resume()
	d.passes(t, third.counted(t))
}

func used(t testing.TB, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// A snapshot that cannot be written is none: the machine goes on, and the next one is whole.
func TestSnapshotFails(t *testing.T) {
	_, b := countingBoard(t)
	b.passes(t, 1000)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := b.Snapshot(Snapshot{RAM: full, State: full}); err == nil {
		t.Fatal("no error")
	}
	n := b.count(t)
	b.passes(t, n)
	s := take(t, b, false)
	if s.diff || s.counted(t) <= n {
		t.Errorf("the next one: difference %v, %d", s.diff, s.counted(t))
	}
}

func TestStatesAreRefused(t *testing.T) {
	cfg, b := countingBoard(t)
	s := take(t, b, false)
	text, err := os.ReadFile(s.state.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		old, new string
	}{
		{"version", `"Version":1`, `"Version":2`},
		{"architecture", `"Arch":"amd64"`, `"Arch":"arm64"`},
		{"no JSON", `{`, `[`},
		{"no devices", `"Devices":[{`, `"Devices":[],"Other":[{`},
		{"no processors", `"Processors":[{`, `"Processors":[],"Others":[{`},
		{"parts of a processor", `"LAPIC":"`, `"LAPIC":"AAAA","Rest":"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			bad := bytes.Replace(text, []byte(c.old), []byte(c.new), 1)
			if bytes.Equal(bad, text) {
				t.Fatalf("%q is not in the state", c.old)
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if b, err := Restore(cfg, Restored{Base: s.memory, State: f}); !errors.Is(err, ErrState) {
				if err == nil {
					b.Close()
				}
				t.Errorf("err: %v", err)
			}
		})
	}
}

// BenchmarkRestore makes a machine of a snapshot: it is to take as long for a large memory as for a small one.
func BenchmarkRestore(b *testing.B) {
	for _, mib := range []int64{256, 1024, 4096} {
		b.Run(fmt.Sprintf("%d MiB", mib), func(b *testing.B) {
			cfg := tinyBoard(b, tinykernel.Rest())
			cfg.Disks, cfg.CPUs, cfg.Memory = nil, 1, mib<<20
			m, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			s := take(b, m, true)
			m.Close()
			for b.Loop() {
				c, err := Restore(cfg, Restored{Base: s.memory, State: s.state})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				c.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkPause is how long a machine rests for its first snapshot: until its memory is frozen in place, whatever its size; what is frozen is written while it goes on.
func BenchmarkPause(b *testing.B) {
	for _, mib := range []int64{256, 1024, 4096} {
		b.Run(fmt.Sprintf("%d MiB", mib), func(b *testing.B) {
			cfg := tinyBoard(b, counting)
			cfg.Disks, cfg.CPUs, cfg.Memory = nil, 1, mib<<20
			var rested time.Duration
			for range b.N {
				m, err := New(cfg)
				if err != nil {
					b.Fatal(err)
				}
				m.passes(b, 1)
				s := newSaved(b)
				begun := time.Now()
				if _, err := m.Snapshot(Snapshot{RAM: s.memory, State: s.state, Frozen: func() { rested += time.Since(begun) }}); err != nil {
					b.Fatal(err)
				}
				m.Close()
			}
			b.ReportMetric(float64(rested.Microseconds())/1e3/float64(b.N), "ms/rest")
		})
	}
}

// BenchmarkClone makes a machine of a snapshot, lets it count on, and ends it.
func BenchmarkClone(b *testing.B) {
	cfg, m := countingBoard(b)
	m.passes(b, 1000)
	s := take(b, m, true)
	at := s.counted(b)
	for b.Loop() {
		c, err := Restore(cfg, Restored{Base: s.memory, State: s.state})
		if err != nil {
			b.Fatal(err)
		}
		c.Resume()
		c.passes(b, at)
		c.Close()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "clones/s")
}
