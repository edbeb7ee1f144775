package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/guest/image"
)

// BenchmarkNewShell measures `capsid new shell` until the session runs: when its machine boots, and when it goes on from one that was kept warm. The peer is the same kernel in
// the same emulator, alone, until it stops because it finds no root: what remains is ours.
func BenchmarkNewShell(b *testing.B) {
	h := newHouse(b)
	ws := h.workspace("w")
	bare := bareKernel(b, h.paths.Images()).Seconds()
	h.must("new", "shell", ws, "--name", "first", "--detach") // which is kept warm
	h.must("rm", "--force", "first")
	for _, how := range []string{"cold", "warm"} {
		b.Run(how, func(b *testing.B) {
			var total time.Duration
			for i := range b.N {
				name := fmt.Sprintf("%s%d", how, i)
				begin := time.Now()
				h.must("new", "shell", ws, "--name", name, "--detach", fmt.Sprintf("--cold=%t", how == "cold"))
				total += time.Since(begin)
				if i == 0 {
					h.logSteps(b, name)
				}
				b.StopTimer()
				h.must("rm", "--force", name)
				b.StartTimer()
			}
			ours := total.Seconds() / float64(b.N)
			b.ReportMetric(ours, "s/start")
			b.ReportMetric(bare, "s/bare-kernel")
			b.ReportMetric(ours/bare, "ratio")
		})
	}
}

func (h *house) logSteps(b *testing.B, name string) {
	b.Helper()
	st, err := h.store.Find(name)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range st.Steps {
		b.Logf("%-40s %6.2f s %s", s.Name, s.Duration.Seconds(), s.Detail)
	}
}

func bareKernel(b *testing.B, root string) time.Duration {
	b.Helper()
	img, err := image.Latest(root)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begin := time.Now()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024",
		"-no-reboot", "-serial", "none", "-kernel", img.Kernel(), "-append", "quiet panic=-1 clearcpuid=cx16").CombinedOutput()
	if err != nil {
		b.Fatalf("the bare kernel: %v\n%s", err, out)
	}
	return time.Since(begin)
}

// BenchmarkNewClaude measures a click on New Claude until Claude Code can be talked to: in a machine that boots, in one that had booted, and in one where it stood at its
// prompt in this folder already.
func BenchmarkNewClaude(b *testing.B) {
	h := newHouse(b)
	ws, other := h.workspace("w"), h.workspace("other")
	start := func(b *testing.B, name, ws string, more ...string) (machine, program time.Duration) {
		begin := time.Now()
		h.must(append([]string{"new", "claude", ws, "--name", name, "--detach", "--policy", h.policy}, more...)...)
		machine = time.Since(begin)
		st, err := h.store.Find(name)
		if err != nil {
			b.Fatal(err)
		}
		h.look(st).await("bypass permissions on")
		return machine, time.Since(begin) - machine
	}
	// The first is kept warm once it has been at its prompt for a while.
	start(b, "first", ws)
	for name := ""; name == ""; {
		kept, err := filepath.Glob(filepath.Join(h.paths.Data, "warm", "prompt-*"))
		if err != nil || b.Context().Err() != nil {
			b.Fatal(err)
		}
		if len(kept) > 0 {
			name = kept[0]
		}
		time.Sleep(100 * time.Millisecond)
	}
	h.must("rm", "--force", "first")
	for _, how := range []string{"cold", "template", "prompt"} {
		b.Run(how, func(b *testing.B) {
			var machine, program time.Duration
			for i := range b.N {
				name, in := fmt.Sprintf("%s%d", how, i), ws
				if how == "template" {
					in = other
				}
				m, p := start(b, name, in, fmt.Sprintf("--cold=%t", how == "cold"))
				machine, program = machine+m, program+p
				b.StopTimer()
				h.must("rm", "--force", name)
				b.StartTimer()
			}
			b.ReportMetric(machine.Seconds()/float64(b.N), "s/machine")
			b.ReportMetric(program.Seconds()/float64(b.N), "s/program")
		})
	}
}

// BenchmarkFork measures how long a session's programs rest for a snapshot, and how long three forks take until they run, at two sizes of memory.
func BenchmarkFork(b *testing.B) {
	h := newHouse(b)
	for _, memory := range []string{"1GiB", "4GiB"} {
		b.Run(memory, func(b *testing.B) {
			name := "of" + strings.ToLower(memory)
			h.must("new", "shell", h.workspace("w"), "--name", name, "--detach", "--memory", memory)
			defer h.must("rm", "--force", name)
			st, err := h.store.Find(name)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			var rested, forked time.Duration
			for range b.N {
				done, err := h.store.Client(st.ID).Snapshot(b.Context(), session.SnapshotRequest{})
				if err != nil {
					b.Fatal(err)
				}
				rested += done.Rested
				kept, err := snapshot.Find(snapshot.Folder(h.paths.Folder(st.ID)), done.Name)
				if err != nil {
					b.Fatal(err)
				}
				begin := time.Now()
				children, err := snapshot.Fork(b.Context(), h.store, kept, 3, "", snapshot.Options{Executable: program(b)})
				if err != nil {
					b.Fatal(err)
				}
				forked += time.Since(begin)
				b.StopTimer()
				for _, c := range children {
					h.must("rm", "--force", c.Name)
				}
				b.StartTimer()
			}
			b.ReportMetric(rested.Seconds()*1e3/float64(b.N), "ms/rest")
			b.ReportMetric(forked.Seconds()/float64(b.N), "s/three-forks")
		})
	}
}

// BenchmarkIdle measures what ten idle sessions of one template take of the host's memory, beside one: the proportional set sizes of all their processes (proc_pid_smaps(5)).
func BenchmarkIdle(b *testing.B) {
	h := newHouse(b)
	ws := h.workspace("w")
	h.must("new", "shell", ws, "--name", "first", "--detach")
	h.must("rm", "--force", "first")
	for range b.N {
		var pids []int
		var one, all float64
		for i := range 10 {
			name := fmt.Sprintf("idle%d", i)
			h.must("new", "shell", ws, "--name", name, "--detach")
			st, err := h.store.Find(name)
			if err != nil {
				b.Fatal(err)
			}
			for pid := range family(b, st.PID) {
				pids = append(pids, pid)
			}
			if i == 0 {
				one = memoryOf(b, pids)
			}
		}
		all = memoryOf(b, pids)
		b.ReportMetric(one, "MiB/one")
		b.ReportMetric(all, "MiB/ten")
		b.ReportMetric(all/one, "ratio")
		for i := range 10 {
			h.must("rm", "--force", fmt.Sprintf("idle%d", i))
		}
	}
}

// memoryOf is in MiB.
func memoryOf(b *testing.B, pids []int) (sum float64) {
	b.Helper()
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			b.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "\nPss:")
		var kib float64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			b.Fatal(err)
		}
		sum += kib / 1024
	}
	return sum
}

// BenchmarkRun measures `capsid run ID -- true` in a running session, beside true on the host.
func BenchmarkRun(b *testing.B) {
	h := newHouse(b)
	h.must("new", "shell", h.workspace("w"), "--name", "r", "--detach")
	defer h.must("rm", "--force", "r")
	if st, err := h.store.Find("r"); err != nil || st.State != session.Running {
		b.Fatal(st.State, err)
	}
	b.ResetTimer()
	begin := time.Now()
	for range b.N {
		h.must("run", "r", "--", "true")
	}
	ours := time.Since(begin).Seconds() / float64(b.N)
	b.StopTimer()
	begin = time.Now()
	for range b.N {
		if err := exec.Command("true").Run(); err != nil {
			b.Fatal(err)
		}
	}
	host := time.Since(begin).Seconds() / float64(b.N)
	b.ReportMetric(ours*1e3, "ms/run")
	b.ReportMetric(host*1e3, "ms/host")
	b.ReportMetric(ours/host, "ratio")
}
