package kvm

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"capsid/vmm"
	"capsid/vmm/kvm/tinykernel"
)

// BenchmarkStart is from the call of Start to the guest's first instructions, which write a line to the serial port: a process, a machine with its tables and
// devices, and a kernel of some bytes. Beside it, where they are there: a process that does nothing, and QEMU's microvm with the same kernel.
// How long the host takes for a process tells how fast it is; so the ratios, not the times, say something of other hosts.
func BenchmarkStart(b *testing.B) {
	needKVM(b)
	backend, cfg := realBackend(b), tinyConfig(b, append(tinykernel.Say("here\n"), tinykernel.Rest()...))
	idle, _ := exec.LookPath("true")
	qemu, _ := exec.LookPath(peerProgram)
	var ours, theirs, process time.Duration
	for b.Loop() {
		ours += startOurs(b, backend, cfg)
		if idle != "" {
			started := time.Now()
			if err := exec.Command(idle).Run(); err != nil {
				b.Fatal(err)
			}
			process += time.Since(started)
		}
		if qemu != "" {
			theirs += startTheirs(b, qemu, cfg)
		}
	}
	b.ReportMetric(0, "ns/op")
	report := func(d time.Duration, unit string) {
		if d > 0 {
			b.ReportMetric(float64(d.Microseconds())/1e3/float64(b.N), unit)
		}
	}
	report(ours, "ours-ms")
	report(theirs, "theirs-ms")
	report(process, "true-ms")
	if theirs > 0 {
		b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	}
}

func startOurs(b *testing.B, backend Backend, cfg vmm.Config) time.Duration {
	started := time.Now()
	m, err := backend.Start(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for deadline := started.Add(time.Minute); len(m.Console(1)) == 0; time.Sleep(50 * time.Microsecond) {
		if time.Now().After(deadline) {
			b.Fatal("nothing on the console")
		}
	}
	return time.Since(started)
}

func startTheirs(b *testing.B, qemu string, cfg vmm.Config) time.Duration {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-accel", "kvm", "-cpu", "host", "-m", "128M", "-bios", "qboot.rom",
		"-M", "microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=on,pcie=off,usb=off,auto-kernel-cmdline=off,x-option-roms=off",
		"-kernel", cfg.Kernel, "-serial", "stdio",
	}
	cmd := exec.CommandContext(ctx, qemu, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var got []byte
	for buf := make([]byte, 64); !bytes.Contains(got, []byte("here")); {
		n, err := out.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			b.Fatalf("%q, %v; %s", got, err, stderr.String())
		}
	}
	took := time.Since(started)
	cancel()
	_ = cmd.Wait() // it was killed
	return took
}
