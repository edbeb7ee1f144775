package vmmtest

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"capsid/vmm"
)

// Bench measures a backend: boot, stream and bytes. cpu-ms is processor time of the machine's process, which a busy host changes less than
// it does the rest.
func Bench(b *testing.B, backend vmm.Backend, o Options) {
	o = o.resolve(b)
	b.Run("boot", func(b *testing.B) {
		used := 0
		for b.Loop() {
			m := boot(b, backend, config(b, o))
			used += cpuMillis(m.Info().PID)
			m.Close()
		}
		b.ReportMetric(float64(used)/float64(b.N), "cpu-ms/op")
	})
	m := boot(b, backend, config(b, o))
	run := func(name string, f func(*testing.B)) {
		b.Run(name, func(b *testing.B) {
			before := cpuMillis(m.Info().PID)
			f(b)
			b.ReportMetric(float64(cpuMillis(m.Info().PID)-before)/float64(b.N), "cpu-ms/op")
		})
	}
	run("stream", func(b *testing.B) {
		for b.Loop() {
			m.dial(b, echoPort).Close()
		}
	})
	run("to guest", func(b *testing.B) {
		b.SetBytes(bulk)
		for b.Loop() {
			m.upload(b, bulk)
		}
	})
	run("to host", func(b *testing.B) {
		b.SetBytes(bulk)
		for b.Loop() {
			m.download(b, bulk)
		}
	})
}

// cpuMillis reads how long a process has run, from proc_pid_stat(5): fields 14 and 15, in hundredths of a second.
func cpuMillis(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return (user + system) * 10
}
