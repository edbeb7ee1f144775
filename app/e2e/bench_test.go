package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/guest/image"
)

// BenchmarkNewShell measures `capsid new shell` until the session runs. The peer is the same kernel in the same emulator, alone, until it
// stops because it finds no root: what remains is ours.
func BenchmarkNewShell(b *testing.B) {
	h := newHouse(b)
	ws := h.workspace("w")
	var total time.Duration
	for i := range b.N {
		name := fmt.Sprintf("n%d", i)
		begin := time.Now()
		h.must("new", "shell", ws, "--name", name, "--detach")
		total += time.Since(begin)
		if st, err := h.store.Find(name); err == nil && i == 0 {
			for _, s := range st.Steps {
				b.Logf("%-40s %6.2f s %s", s.Name, s.Duration.Seconds(), s.Detail)
			}
		}
		b.StopTimer()
		h.must("rm", "--force", name)
		b.StartTimer()
	}
	b.StopTimer()
	ours := total.Seconds() / float64(b.N)
	bare := bareKernel(b, h.paths.Images()).Seconds()
	b.ReportMetric(ours, "s/start")
	b.ReportMetric(bare, "s/bare-kernel")
	b.ReportMetric(ours/bare, "ratio")
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

// BenchmarkNewClaude measures a click on New Claude until Claude Code can be talked to.
func BenchmarkNewClaude(b *testing.B) {
	h := newHouse(b)
	ws := h.workspace("w")
	for i := range b.N {
		name := fmt.Sprintf("c%d", i)
		begin := time.Now()
		h.must("new", "claude", ws, "--name", name, "--detach", "--policy", h.policy)
		machine := time.Since(begin)
		st, err := h.store.Find(name)
		if err != nil {
			b.Fatal(err)
		}
		h.look(st).await("bypass permissions on")
		b.ReportMetric(machine.Seconds(), "s/machine")
		b.ReportMetric((time.Since(begin) - machine).Seconds(), "s/program")
		b.StopTimer()
		h.must("rm", "--force", name)
		b.StartTimer()
	}
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
