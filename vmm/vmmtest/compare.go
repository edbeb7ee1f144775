package vmmtest

import (
	"bufio"
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"capsid/vmm"
)

// What Compare has each machine do. It is little: one of them runs on a processor that is itself emulated.
const (
	compareDisk   = 64 << 20
	compareStream = 32 << 20
	compareLong   = 64 // MiB
	compareRandom = 500
	compareFlush  = 100
	compareDials  = 50
)

// figure is one thing that is measured.
type figure struct {
	name, unit string
	more       bool // is better
}

// figures in the order of their report.
var figures = []figure{
	{"boot", "ms", false}, {"boot-cpu", "ms", false}, {"memory-beside-guest", "MiB", false},
	{"disk-read-1M", "MB/s", true}, {"disk-write-1M", "MB/s", true},
	{"disk-read-4K", "µs", false}, {"disk-read-4K-8-at-a-time", "µs", false}, {"disk-write-4K-flush", "µs", false},
	{"link-to-guest", "MB/s", true}, {"link-to-host", "MB/s", true}, {"link-stream", "µs", false},
}

// Compare measures a backend beside another: the same kernel, initramfs, memory, processors and disks, one machine at a time, in turns. Each iteration of "rounds"
// boots both and puts them to the same work; the other benchmarks report the medians of all rounds, and how ours compares: ratio is ours/theirs, so less than one is
// better for a time and worse for a rate.
func Compare(b *testing.B, ours, theirs vmm.Backend, o Options) {
	o = o.resolve(b)
	backends := []vmm.Backend{ours, theirs}
	got := [2]map[string][]float64{{}, {}}
	b.Run("rounds", func(b *testing.B) {
		for round := 0; b.Loop(); round++ {
			for i := range backends {
				i = (i + round) % 2 // what comes first finds the host's caches colder
				for name, v := range measure(b, backends[i], o) {
					got[i][name] = append(got[i][name], v)
				}
			}
		}
	})
	for _, f := range figures {
		us, them := got[0][f.name], got[1][f.name]
		if len(us) == 0 || len(them) == 0 {
			continue
		}
		b.Run(f.name, func(b *testing.B) {
			for b.Loop() {
				continue // it was measured before
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(us), "ours-"+f.unit)
			b.ReportMetric(median(them), "theirs-"+f.unit)
			b.ReportMetric(median(us)/median(them), "ratio")
			b.Logf("ours %.4g, theirs %.4g %s", us, them, f.unit)
		})
	}
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.SortFunc(v, cmp.Compare[float64])
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// measure boots a machine, puts it to work and ends it.
func measure(b *testing.B, backend vmm.Backend, o Options) (v map[string]float64) {
	cfg := config(b, o)
	root, data := makeDisk(b, cfg.Dir, "root", "read only"), filepath.Join(cfg.Dir, "data")
	// All of it is there: neither side is to find holes, or to make room.
	if err := os.WriteFile(data, slices.Repeat([]byte{0xa5}, compareDisk), 0o600); err != nil {
		b.Fatal(err)
	}
	cfg.Disks = []vmm.Disk{{Path: root, ReadOnly: true}, {Path: data}}
	v = map[string]float64{}
	started := time.Now()
	m := boot(b, backend, cfg)
	v["boot"] = float64(time.Since(started).Microseconds()) / 1e3
	v["boot-cpu"] = float64(cpuMillis(m.Info().PID))
	defer m.Close()

	each := func(kind string, n int) float64 { // µs
		a := m.ask(b, request{Op: "measure", Disk: "vdb", Text: kind, Count: n})
		return float64(a.Nanos) / 1e3 / float64(n)
	}
	// After the work, so that what it left in the process is in it.
	defer func() { v["memory-beside-guest"] = besideGuest(b, m.Info().PID, cfg.Memory) / (1 << 20) }()
	rate := func(bytes int, d time.Duration) float64 { return float64(bytes) / 1e6 / d.Seconds() }
	each(readLong, compareLong)
	v["disk-read-1M"] = longBlock / each(readLong, compareLong)
	v["disk-write-1M"] = longBlock / each(writeLong, compareLong)
	v["disk-read-4K"] = each(readRandom, compareRandom)
	v["disk-read-4K-8-at-a-time"] = each(readManyOf, compareRandom)
	v["disk-write-4K-flush"] = each(writeFlush, compareFlush)
	v["link-to-guest"] = rate(compareStream, m.upload(b, compareStream))
	v["link-to-host"] = rate(compareStream, m.download(b, compareStream))
	before := time.Now()
	for range compareDials {
		m.dial(b, echoPort).Close()
	}
	v["link-stream"] = float64(time.Since(before).Microseconds()) / compareDials
	return v
}

// besideGuest is how many bytes of the host's memory a machine's process takes but for the guest's own: all that is resident, its program's pages in the page
// cache included, less the mappings that are large enough to be guest memory (proc_pid_smaps(5)).
func besideGuest(b *testing.B, pid int, memory int64) float64 {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/smaps")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var size, total int64 // KiB
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "Size:":
			size = n
		case "Rss:":
			if size < memory>>11 {
				total += n
			}
		}
	}
	return float64(total) * 1024
}
